#![no_std]
//! Under construction in this commit series.
