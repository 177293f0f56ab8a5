//! The far end: verifies what it takes, and answers.
