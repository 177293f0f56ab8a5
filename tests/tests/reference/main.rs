//! The program under the name `localproxy`: what scripts written for the reference rely
//! on. Wire specification, sections 13 and 14 (options, texts, exit codes, files) and
//! section 18 (what the reference's own tests ask for).
//!
//! ```text
//! invocation   13        options, texts, exit codes
//! files        14        --config, --settings-json, --export-default-settings, environment
//! output       13.2      the lines that scripts wait for
//! behaviour    18        the reference's unit tests
//! acceptance   18, uat/  its acceptance tests, against the real relay
//! mix          6.2       every version with every other, and with the reference itself
//! ```

mod acceptance;
mod behaviour;
mod files;
mod invocation;
mod mix;
mod output;
