//! Stores: the one contract that each of them keeps, and several of them at once.

mod contract;
mod file;
mod several;
mod vault;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcp")]
mod gcp;
#[cfg(feature = "kubernetes")]
mod kubernetes;
