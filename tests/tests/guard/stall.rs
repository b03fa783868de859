//! A task that does not leave a function that is replaced.
