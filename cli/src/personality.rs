//! As what we were called.

use std::ffi::OsStr;
use std::path::Path;

/// Whose manners the process has. Decided once, by the name it was started under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Personality {
    /// Ourselves: sub-commands, hints, exit codes that tell things apart.
    Adit,
    /// A drop-in for the reference: its options, its texts, its exit codes.
    Localproxy,
}

impl Personality {
    /// The personality of a program called so: `localproxy`, in any directory, is the drop-in.
    pub fn of(program: Option<&OsStr>) -> Self {
        match program.and_then(|program| Path::new(program).file_name()) {
            Some(name) if name == "localproxy" => Self::Localproxy,
            _ => Self::Adit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_decides() {
        let of = |program: &str| Personality::of(Some(OsStr::new(program)));
        assert_eq!(of("localproxy"), Personality::Localproxy);
        assert_eq!(of("/opt/bin/localproxy"), Personality::Localproxy);
        assert_eq!(of("./localproxy"), Personality::Localproxy);
        for program in [
            "adit",
            "/usr/bin/adit",
            "localproxy/adit",
            "localproxy2",
            "",
        ] {
            assert_eq!(of(program), Personality::Adit, "{program}");
        }
        assert_eq!(Personality::of(None), Personality::Adit);
    }
}
