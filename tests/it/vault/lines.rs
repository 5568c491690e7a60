//! Each line of the rendered policy.
