//! The broker of somebody else's that `adit serve` publishes through: its URL and its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_service::notify::{BrokerAddress, BrokerAddressError, ExternalSettings, Login};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};

use crate::agent::identity::{FileError, IdentityError, mqtt_config, private};
use crate::args::broker::BrokerArgs;
use crate::fault::BadInput;
use crate::world::World;

/// Checks the options and reads the files that they name; `None` without `--mqtt-broker`.
///
/// # Errors
///
/// [`BadInput`] names the option at fault.
pub fn read(args: &BrokerArgs, world: &World) -> Result<Option<ExternalSettings>, BadInput> {
    let tls_files = [
        (CA, &args.ca),
        (CERTIFICATE, &args.certificate),
        (KEY, &args.key),
    ];
    let given =
        |(option, path): &(&'static str, &Option<PathBuf>)| path.is_some().then_some(*option);
    let tls_option = tls_files.iter().find_map(given);
    let Some(url) = &args.url else {
        let credentials = args.credentials.as_ref().map(|_| CREDENTIALS);
        return match tls_option.or(credentials) {
            None => Ok(None),
            Some(option) => Err(BadInput::usage(
                format!("{option} is given without {BROKER}"),
                "say which broker: --mqtt-broker mqtts://broker.example.org:8883",
            )),
        };
    };
    let address: BrokerAddress = url.parse().map_err(bad_address)?;
    if let (false, Some(option)) = (address.is_secure(), tls_option) {
        return Err(BadInput::usage(
            format!("{option} is given, but {address} is without TLS"),
            "write mqtts:// for a broker that speaks TLS",
        ));
    }
    let tls = match address.is_secure() {
        true => tls(args, world)?,
        false => trusting_nobody()?,
    };
    let login = (args.credentials.as_deref()).map(|path| login(&world.path(path)));
    Ok(Some(ExternalSettings {
        address,
        tls,
        login: login.transpose()?,
    }))
}

fn tls(args: &BrokerArgs, world: &World) -> Result<Arc<ClientConfig>, BadInput> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| world.path(path));
    let (ca, certificate, key) = (path(&args.ca), path(&args.certificate), path(&args.key));
    let pair = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
        (None, None) => None,
        (certificate, _) => {
            let (given, missing) = match certificate {
                Some(_) => (CERTIFICATE, KEY),
                None => (KEY, CERTIFICATE),
            };
            return Err(BadInput::usage(
                format!("{given} is given without {missing}"),
                "give both files, or neither",
            ));
        }
    };
    let config = mqtt_config(ca.as_deref(), pair).map_err(|fault| bad_identity(&fault))?;
    Ok(Arc::new(config))
}

/// Without TLS it is not used; if it were, it would take no broker at all.
fn trusting_nobody() -> Result<Arc<ClientConfig>, BadInput> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|fault| bad_ca(&fault.to_string()))?;
    let builder = builder.with_root_certificates(RootCertStore::empty());
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn login(path: &Path) -> Result<Login, BadInput> {
    let text = private(path).map_err(|fault| bad_file(CREDENTIALS, &fault))?;
    let login = std::str::from_utf8(&text).map(Login::parse);
    match login {
        Ok(Ok(login)) => Ok(login),
        // Not what is in it: most of it is a password.
        _ => Err(fault(
            CREDENTIALS,
            &format!("{}: it is not one line `user:password`", path.display()),
            "write name and password of the broker's user for this service, with a colon between",
        )),
    }
}

fn bad_address(problem: BrokerAddressError) -> BadInput {
    BadInput::usage(
        format!("{BROKER}: {problem}"),
        "for example: --mqtt-broker mqtts://broker.example.org:8883",
    )
}

fn bad_identity(problem: &IdentityError) -> BadInput {
    match problem {
        IdentityError::Ca(problem) => bad_ca(problem),
        IdentityError::Certificate(file) => bad_file(CERTIFICATE, file),
        IdentityError::Key(file) => bad_file(KEY, file),
        problem => fault(
            KEY,
            &problem.to_string(),
            "give the two files that were made together",
        ),
    }
}

fn bad_ca(problem: &str) -> BadInput {
    fault(
        CA,
        problem,
        "give a PEM file of the authority that certified the broker",
    )
}

fn bad_file(option: &str, problem: &FileError) -> BadInput {
    let hint = match problem {
        FileError::Mode { .. } => problem.hint(),
        FileError::Read { .. } => "give a file that this user can read".to_owned(),
        _ => "give a PEM file".to_owned(),
    };
    fault(option, &problem.to_string(), &hint)
}

fn fault(option: &str, problem: &str, hint: &str) -> BadInput {
    BadInput::fatal(format!("{option}: {problem}"), hint).in_file()
}

const BROKER: &str = "--mqtt-broker";
const CA: &str = "--mqtt-broker-ca";
const CERTIFICATE: &str = "--mqtt-broker-cert";
const KEY: &str = "--mqtt-broker-key";
const CREDENTIALS: &str = "--mqtt-broker-credentials";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::world::testing::world;

    /// `device.pem` and `device.key` belong together, `open.key` and `open.txt` can be read by others.
    fn files() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["adit".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["adit".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        for (name, text, mode) in [
            ("adit.pem", made.cert.pem().as_str(), 0o644),
            ("adit.key", &key, 0o600),
            ("open.key", &key, 0o644),
            ("other.key", &other.signing_key.serialize_pem(), 0o600),
            ("login", "adit:pass:word\n", 0o600),
            ("open.login", "adit:tweet\n", 0o640),
            ("half.login", "tweet\n", 0o600),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        directory
    }

    /// URL, authority, certificate, key, credentials; `-` is none.
    fn read_words(directory: &TempDir, words: &str) -> Result<Option<ExternalSettings>, BadInput> {
        let mut words = words.split(' ').map(|word| (word != "-").then_some(word));
        let mut word = || words.next().flatten();
        let url = word().map(str::to_owned);
        let mut path = || word().map(PathBuf::from);
        let args = BrokerArgs {
            url,
            ca: path(),
            certificate: path(),
            key: path(),
            credentials: path(),
        };
        assert!(!format!("{args:?}").contains("tweet"));
        read(&args, &world(directory.path()))
    }

    #[test]
    fn each_way_to_be_let_in_is_taken() {
        let files = files();
        for words in [
            "mqtts://b adit.pem adit.pem adit.key -",
            "mqtts://b adit.pem - - login",
            "mqtts://b adit.pem adit.pem adit.key login",
            "mqtt://localhost - - - login",
            "mqtt://127.0.0.1:1883 - - - -",
        ] {
            let settings = read_words(&files, words).unwrap().unwrap();
            let is_mutual = settings.tls.client_auth_cert_resolver.has_certs();
            assert_eq!(is_mutual, words.contains("adit.key"), "{words}");
            assert_eq!(settings.login.is_some(), words.contains("login"), "{words}");
        }
        assert!(read_words(&files, "- - - - -").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        let files = files();
        for (words, option, problem) in [
            ("- adit.pem - - -", CA, "without --mqtt-broker"),
            ("- - - - login", CREDENTIALS, "without --mqtt-broker"),
            ("b:8883 - - - -", BROKER, "does not start with mqtts://"),
            ("mqtt://b.example - - - -", BROKER, "on localhost only"),
            (
                "mqtts://u:tweet@b - - - -",
                BROKER,
                "--mqtt-broker-credentials",
            ),
            ("mqtt://localhost adit.pem - - -", CA, "without TLS"),
            (
                "mqtts://b - adit.pem - -",
                CERTIFICATE,
                "without --mqtt-broker-key",
            ),
            (
                "mqtts://b - - adit.key -",
                KEY,
                "without --mqtt-broker-cert",
            ),
            ("mqtts://b none.pem - - -", CA, "none.pem"),
            ("mqtts://b adit.key - - -", CA, "BEGIN CERTIFICATE"),
            (
                "mqtts://b adit.pem none.pem adit.key -",
                CERTIFICATE,
                "none.pem",
            ),
            ("mqtts://b adit.pem adit.pem open.key -", KEY, "mode 0644"),
            (
                "mqtts://b adit.pem adit.pem other.key -",
                KEY,
                "not the key of",
            ),
            (
                "mqtts://b adit.pem - - open.login",
                CREDENTIALS,
                "mode 0640",
            ),
            (
                "mqtts://b adit.pem - - half.login",
                CREDENTIALS,
                "user:password",
            ),
        ] {
            let fault = read_words(&files, words).unwrap_err();
            let message = fault.message();
            assert!(message.starts_with(option), "{words}: {message}");
            assert!(message.contains(problem), "{words}: {message}");
            assert!(!fault.hint().is_empty(), "{words}");
            assert!(!format!("{fault:?}").contains("tweet"), "{words}");
        }
    }
}
