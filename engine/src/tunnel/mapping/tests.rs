use super::*;

use Mode::{Destination, Source};

fn id(text: &str) -> ServiceId {
    text.parse().unwrap()
}

fn ids(texts: &[&str]) -> Vec<ServiceId> {
    texts.iter().map(|text| id(text)).collect()
}

fn names(texts: &[&str]) -> Names {
    Names(ids(texts))
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text, Source).unwrap()
}

/// The resolved mapping as text, `-` for no service.
fn shown(resolved: Resolved) -> Vec<String> {
    resolved
        .iter()
        .map(|(service, endpoint)| match service {
            Some(service) => format!("{service} -> {endpoint}"),
            None => format!("- -> {endpoint}"),
        })
        .collect()
}

fn resolved(text: &str, mode: Mode, offered: &[&str]) -> Result<Vec<String>, MappingMismatch> {
    let mapping = Mapping::parse(text, mode).unwrap();
    mapping.resolve(mode, &ids(offered)).map(shown)
}

#[test]
fn one_item_without_a_service_is_the_v1_form() {
    assert_eq!(resolved("5555", Source, &["SSH"]).unwrap(), ["SSH -> 5555"]);
    assert_eq!(resolved("5555", Source, &[]).unwrap(), ["- -> 5555"]);
    assert_eq!(
        resolved(",, host:22 ,", Destination, &["SSH"]).unwrap(),
        ["SSH -> host:22"]
    );
    assert_eq!(
        resolved("5555", Source, &["SSH", "RDP"]),
        Err(MappingMismatch::NamesNeeded {
            offered: names(&["SSH", "RDP"])
        })
    );
}

#[test]
fn the_same_service_offered_twice_is_one_service() {
    assert_eq!(
        resolved("5555", Source, &["SSH", "SSH"]).unwrap(),
        ["SSH -> 5555"]
    );
    assert_eq!(
        resolved("", Source, &["B", "A", "B"]).unwrap(),
        ["B -> 0", "A -> 0"]
    );
}

/// Found by fuzzing: the second part was taken for a path.
#[test]
fn a_run_of_equals_signs_may_have_spaces_in_it() {
    assert_eq!(
        resolved("SSH = = /run/x", Destination, &["SSH"]).unwrap(),
        ["SSH -> /run/x"]
    );
}

#[test]
fn named_items_follow_the_order_of_the_offer() {
    let text = " SSH = 22 , RDP==[::1]:3389,,a:b=/run/x=y.sock";
    assert_eq!(
        resolved(text, Destination, &["a:b", "SSH", "RDP"]).unwrap(),
        ["a:b -> /run/x=y.sock", "SSH -> 22", "RDP -> [::1]:3389"]
    );
}

#[test]
fn named_items_must_be_exactly_the_tunnels_services() {
    let different = |unmapped: &[&str], unknown: &[&str]| {
        Err(MappingMismatch::Different {
            unmapped: names(unmapped),
            unknown: names(unknown),
        })
    };
    let text = "SSH=22,RDP=3389";
    assert_eq!(resolved(text, Source, &["SSH"]), different(&[], &["RDP"]));
    assert_eq!(
        resolved(text, Source, &["RDP", "SSH", "VNC"]),
        different(&["VNC"], &[])
    );
    assert_eq!(
        resolved(text, Destination, &["SSH", "VNC"]),
        different(&["VNC"], &["RDP"])
    );
    assert_eq!(
        resolved("SSH=22", Destination, &[]),
        different(&[], &["SSH"])
    );
}

#[test]
fn the_first_of_two_items_for_one_service_wins() {
    let mapping = Mapping::parse("SSH=1,SSH=2,RDP=3,SSH=4", Source).unwrap();
    assert_eq!(mapping.duplicates(), ids(&["SSH", "SSH"]));
    assert_eq!(
        shown(mapping.resolve(Source, &ids(&["SSH", "RDP"])).unwrap()),
        ["SSH -> 1", "RDP -> 3"]
    );
}

#[test]
fn nothing_mapped_means_free_ports_for_a_source_only() {
    for text in ["", ",", " , ,"] {
        let mapping = Mapping::parse(text, Source).unwrap();
        assert!(mapping.is_empty() && !mapping.is_direct());
    }
    assert_eq!(
        resolved("", Source, &["A", "B"]).unwrap(),
        ["A -> 0", "B -> 0"]
    );
    assert_eq!(resolved("", Source, &[]).unwrap(), ["- -> 0"]);
    assert_eq!(
        resolved("", Destination, &["A"]),
        Err(MappingMismatch::NothingMapped {
            offered: names(&["A"])
        })
    );
    assert!(resolved("", Destination, &[]).is_err());
}

/// the reference subtracts unsorted sets and then gives configured services random ports. Every
/// order of the offer must leave every configured port alone.
#[test]
fn a_configured_port_is_never_replaced() {
    let table: BTreeMap<String, Endpoint> = [("A", "1001"), ("C", "1003"), ("D", "1004")]
        .map(|(service, text)| (service.to_owned(), endpoint(text)))
        .into();
    let mapping = Mapping::default().with_table(table);
    let orders = [
        ["A", "B", "C", "D"],
        ["D", "C", "B", "A"],
        ["C", "A", "D", "B"],
        ["B", "D", "A", "C"],
    ];
    for order in orders {
        let resolved = mapping.resolve(Source, &ids(&order)).unwrap();
        for (service, endpoint) in resolved {
            let expected = match service.unwrap().as_str() {
                "A" => "1001",
                "C" => "1003",
                "D" => "1004",
                _ => "0",
            };
            assert_eq!(endpoint.to_string(), expected, "{order:?}");
        }
    }
}

#[test]
fn a_destination_needs_every_service_in_the_table() {
    let table = [("A".to_owned(), endpoint("1001"))].into();
    let mapping = Mapping::default().with_table(table);
    assert_eq!(
        shown(mapping.resolve(Destination, &ids(&["A"])).unwrap()),
        ["A -> 1001"]
    );
    assert_eq!(
        mapping.resolve(Destination, &ids(&["A", "B", "C"])),
        Err(MappingMismatch::NotInTable {
            missing: names(&["B", "C"])
        })
    );
}

#[test]
fn the_table_is_not_asked_when_something_is_mapped() {
    let table = [("A".to_owned(), endpoint("1001"))].into();
    let mapping = Mapping::parse("2002", Source).unwrap().with_table(table);
    assert_eq!(
        shown(mapping.resolve(Source, &ids(&["A"])).unwrap()),
        ["A -> 2002"]
    );
}

#[test]
fn bad_items_are_refused_and_named() {
    use MappingError::*;
    let item = |text: &str| text.to_owned();
    let long = format!("{}=22", "a".repeat(129));
    let cases = [
        ("SSH=22,23", ServiceMissing { item: item("23") }),
        ("22,23", ServiceMissing { item: item("22") }),
        ("=22", ServiceMissing { item: item("=22") }),
        ("==", ServiceMissing { item: item("==") }),
        (
            "SSH=",
            Endpoint {
                item: item("SSH="),
                source: EndpointError::Empty,
            },
        ),
        (
            "A=1,B=70000",
            Endpoint {
                item: item("B=70000"),
                source: EndpointError::PortOutOfRange {
                    given: item("70000"),
                },
            },
        ),
        (
            "a.b=22",
            Service {
                item: item("a.b=22"),
                source: InvalidId::Character {
                    what: "service id",
                    offset: 1,
                },
            },
        ),
        (
            &long,
            Service {
                item: long.clone(),
                source: InvalidId::TooLong {
                    what: "service id",
                    size: 129,
                    max: 128,
                },
            },
        ),
        ("A=stdio:,B=22", StdioNotAlone),
        (
            "A=22,B=22",
            Shared {
                endpoint: endpoint("22"),
                first: id("A"),
                second: id("B"),
            },
        ),
    ];
    for (text, error) in cases {
        assert_eq!(Mapping::parse(text, Source), Err(error), "{text:?}");
    }
    let many = vec!["a=1"; MAX_SERVICE_IDS + 1].join(",");
    assert_eq!(
        Mapping::parse(&many, Source),
        Err(TooMany {
            count: MAX_SERVICE_IDS + 1
        })
    );
}

#[test]
fn a_destination_may_dial_one_place_for_two_services() {
    assert_eq!(
        resolved("A=22,B=22", Destination, &["A", "B"]).unwrap(),
        ["A -> 22", "B -> 22"]
    );
}

#[test]
fn stdio_is_known_before_the_services_are() {
    for text in ["stdio:", "SSH=stdio:"] {
        assert!(Mapping::parse(text, Source).unwrap().is_stdio(), "{text}");
    }
    assert!(!Mapping::parse("22", Source).unwrap().is_stdio());
    assert!(!Mapping::default().is_stdio());
}
