//! The environment variables that stand for options (wire specification, section 14.1).

use super::options::OPTIONS;
use super::{Origin, ProxyArgs};
use crate::fault::BadInput;
use crate::world::World;

/// Options that the environment gives. A variable that is set to nothing counts as given, as it does
/// for the reference.
pub fn read(world: &World) -> Result<ProxyArgs, BadInput> {
    let mut args = ProxyArgs::default();
    for row in OPTIONS {
        let Some(variable) = row.variable else {
            continue;
        };
        let Some(value) = world.variable(variable) else {
            continue;
        };
        let origin = Origin::Environment(variable);
        let value = value.to_str().ok_or_else(|| {
            BadInput::value(
                row.option,
                &origin,
                "the value is not valid UTF-8",
                "set the variable again",
            )
        })?;
        args.insert(row.option, value.to_owned(), origin);
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::options::Opt;
    use crate::world::testing::world;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    #[test]
    fn the_four_variables_and_no_other() {
        let mut world = world(Path::new(""));
        for (name, value) in [
            ("AWSIOT_TUNNEL_ACCESS_TOKEN", "a"),
            ("AWSIOT_TUNNEL_CLIENT_TOKEN", "c"),
            ("AWSIOT_TUNNEL_ENDPOINT", "e"),
            ("AWSIOT_TUNNEL_REGION", "r"),
            ("AWSIOT_TUNNEL_MODE", "src"),
        ] {
            world.variables.insert(name.into(), value.into());
        }
        let args = read(&world).unwrap();
        assert_eq!(args.value(Opt::AccessToken), Some("a"));
        assert_eq!(args.value(Opt::ClientToken), Some("c"));
        assert_eq!(args.value(Opt::ProxyEndpoint), Some("e"));
        assert_eq!(args.value(Opt::Region), Some("r"));
        assert!(!args.has(Opt::Mode));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_not_shown() {
        let mut world = world(Path::new(""));
        let value = OsString::from_vec(b"canary\xff".to_vec());
        world
            .variables
            .insert("AWSIOT_TUNNEL_ACCESS_TOKEN".into(), value);
        let fault = read(&world).unwrap_err();
        assert!(fault.message().starts_with("AWSIOT_TUNNEL_ACCESS_TOKEN:"));
        assert!(!format!("{fault:?}").contains("canary"));
    }
}
