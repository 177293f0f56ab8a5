//! What the processes under test cost: CPU seconds, memory, descriptors.
