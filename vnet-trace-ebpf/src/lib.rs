//! The record layout that the probes and user space share.
#![no_std]
