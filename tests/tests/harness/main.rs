//! The harness judged by itself: a scripted service talks to a scripted proxy. What these
//! tests find wrong would be found "wrong" in the product.

mod counts;
mod coverage;
mod links;
mod processes;
mod results;
mod sources;
mod unsafe_code;
