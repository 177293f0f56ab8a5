//! What was measured: recorders of the workers, intervals, the summary and its files.
