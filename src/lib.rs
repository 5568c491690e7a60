//! idkeep keeps a Canton Network validator recoverable.
