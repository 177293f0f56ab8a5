//! What `serve` and `demo` become.

use super::*;
use adit_service::quotas::Quotas;

#[test]
fn serve_and_demo_become_settings() {
    let mut world = world(std::path::Path::new(""));
    let mut plan_of = |line: &str| {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        plan(Adit, &arguments, &mut world)
    };
    let Job::Serve(settings) = plan_of("serve --data-dir /d --loops 2 --io uring")
        .unwrap()
        .job
    else {
        panic!("serve");
    };
    assert_eq!(settings.loops, NonZeroU16::new(2));
    assert_eq!(settings.names, []);
    assert_eq!(settings.store, StoreChoice::Sqlite);
    assert_eq!(settings.io, IoChoice::Uring);
    assert!(!settings.insecure_no_auth && settings.access_keys.is_none());
    assert_eq!(settings.quotas, Quotas::default());
    let hours = |count: u64| Duration::from_secs(count * 3_600);
    let kept = |settings: &ServeSettings| (settings.notify_retention, settings.tunnel_retention);
    assert_eq!(kept(&settings), (hours(1), hours(3)));
    let Job::Serve(settings) = plan_of(
        "serve --data-dir /d --insecure-no-auth --region r-1 --account 123456789012 --quotas aws \
         --quota open-tunnels=7 --quota services-per-tunnel=9 --notify-retention 2h \
         --tunnel-retention 720h",
    )
    .unwrap()
    .job
    else {
        panic!("serve");
    };
    assert!(settings.insecure_no_auth);
    assert_eq!(settings.naming.region(), "r-1");
    assert_eq!(kept(&settings), (hours(2), hours(720)));
    let mut expected = Quotas::preset("aws").unwrap();
    expected.set("open-tunnels=7").unwrap();
    expected.set("services-per-tunnel=9").unwrap();
    assert_eq!(settings.quotas, expected);
    for (arguments, message) in [
        ("--region EU", "--region: a region is"),
        ("--account 1", "--account: an account is 12 digits"),
        (
            "--quota tunnels=1",
            "--quota: `tunnels=1`: no quota has this name; there are",
        ),
        (
            "--quota open-tunnels=0",
            "open-tunnels must be a number from 1 to",
        ),
        ("--quotas azure", "--quotas"),
        (
            "--notify-retention 13h",
            "--notify-retention: `13h` is no time that can be kept",
        ),
        (
            "--tunnel-retention soon",
            "--tunnel-retention: `soon` is no time that can be kept",
        ),
        ("--insecure-no-auth --access-keys k", "--access-keys"),
    ] {
        let refusal = plan_of(&format!("serve --data-dir /d {arguments}")).unwrap_err();
        let text = refusal.fault.message();
        assert!(text.contains(message), "{arguments}: {text}");
    }
    let refusal = plan_of("serve --data-dir /d --store redis://u:tweet@h").unwrap_err();
    let refusal = format!("{:?}", refusal.fault);
    assert!(
        refusal.contains("--store redis: there is no such store"),
        "{refusal}"
    );
    assert!(!refusal.contains("tweet"), "{refusal}");
    let refusal = plan_of("serve --data-dir /d --api-listen [::1]:1 --tunnel-listen [::1]:1");
    assert!(
        refusal
            .unwrap_err()
            .fault
            .message()
            .contains("are both [::1]:1")
    );
    let plan = plan_of("demo --check -v 2 --log-format json").unwrap();
    assert!(matches!(
        plan.job,
        Job::Demo(DemoSettings { check: true, .. })
    ));
    assert_eq!((plan.log.verbosity.0, plan.log.format), (2, Format::Json));
}

#[test]
fn names_for_the_certificate_are_checked_and_missed() {
    let mut world = world(std::path::Path::new(""));
    let mut plan_of = |line: &str| {
        let line = format!("serve --data-dir /d {line}");
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        plan(Adit, &arguments, &mut world).map_err(|refusal| refusal.fault)
    };
    let named =
        plan_of("--name tunnels.example.org --name [2001:db8::1] --tunnel-listen [::]:7443");
    let named = named.unwrap();
    assert_eq!(named.warnings, Vec::<String>::new());
    let Job::Serve(settings) = named.job else {
        panic!("serve");
    };
    let names = ["tunnels.example.org", "2001:db8::1"];
    let names = names.map(|name| ServerName::try_from(name).unwrap());
    assert_eq!(settings.names, names);
    for (listen, count) in [
        ("0.0.0.0:1", 1),
        ("[::]:1", 1),
        ("127.0.0.1:1", 0),
        ("192.0.2.1:1", 0),
    ] {
        let warnings = plan_of(&format!("--tunnel-listen {listen}"))
            .unwrap()
            .warnings;
        assert_eq!(warnings.len(), count, "{listen}");
        assert!(warnings.iter().all(|text| text.contains("--name")));
    }
    for bad in ["https://h", "h:7443", "a b", "*"] {
        let arguments = ["serve", "--data-dir", "/d", "--name", bad].map(OsString::from);
        let fault = plan(Adit, &arguments, &mut world).unwrap_err().fault;
        assert!(fault.message().starts_with("--name: `"), "{fault:?}");
    }
}

#[test]
fn a_broker_of_somebody_elses_takes_the_place_of_the_services_own() {
    let mut world = world(std::path::Path::new(""));
    let mut plan_of = |line: &str| {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        plan(Adit, &arguments, &mut world)
    };
    let line = "serve --data-dir /d --mqtt-broker mqtt://localhost:1883";
    let Job::Serve(settings) = plan_of(line).unwrap().job else {
        panic!("serve");
    };
    let broker = settings.mqtt_broker.unwrap();
    assert_eq!(broker.address.to_string(), "mqtt://localhost:1883");
    let both = format!("{line} --mqtt-listen 127.0.0.1:0");
    let fault = plan_of(&both).unwrap_err().fault;
    let message = fault.message();
    assert!(
        message.contains("--mqtt-listen") && message.contains("exclude each other"),
        "{message}"
    );
}
