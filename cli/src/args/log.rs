//! How a command tells of its work: the same options for all of them.

use clap::Args;

/// What every command but `proxy`, which has the reference's table, says of its log.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// 0 off, 1 fatal, 2 error, 3 warning, 4 info, 5 debug, 6 trace
    #[arg(
        short,
        long,
        value_name = "LEVEL",
        default_value_t = 4,
        help_heading = "Output"
    )]
    pub verbose: u16,
    /// Form of the log on standard error
    #[arg(
        long,
        value_name = "text|json",
        default_value = "text",
        help_heading = "Output"
    )]
    pub log_format: crate::log::Format,
}
