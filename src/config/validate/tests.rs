//! What a configuration may not say.

use serde_json::json;

use super::*;
use crate::config::{ClientAction, ClientEvent, Cluster, CustomEvent, DoorIdentity, GenericDoor, JwtAlgorithm, Right};
use crate::events::Priority;

fn keys(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let mut config = Config::default();
    change(&mut config);
    problems(&config).into_iter().map(|finding| finding.keys.into_iter().next().expect("a key")).collect()
}

fn event(name: &str, channel: &str) -> CustomEvent {
    CustomEvent {
        name: name.to_owned(),
        channel: channel.to_owned(),
        priority: Priority::default(),
        entity: None,
        conflated: false,
        history: true,
    }
}

fn api_key(name: &str) -> ApiKey {
    let hash = format!("sha256:{}", "0aF9".repeat(16));
    ApiKey {
        name: name.to_owned(),
        hash,
        rights: vec![Right::Read],
        organizations: None,
        publishes_per_second: None,
        reads_per_second: None,
    }
}

/// Doors that are open as they should be.
fn open_doors(config: &mut Config) {
    let doors = &mut config.doors;
    (doors.workmatrix.enabled, doors.workmatrix.organization) = (true, "matrix".to_owned());
    (doors.dexter.enabled, doors.dexter.organization) = (true, "dexter".to_owned());
    (doors.gym.enabled, doors.gym.organization) = (true, "gym".to_owned());
    (doors.apier.enabled, doors.apier.organization) = (true, "api".to_owned());
    doors.generic = vec![generic("/live")];
    config.auth.jwt.secret = "x".repeat(32).into();
}

fn generic(path: &str) -> GenericDoor {
    serde_json::from_value(serde_json::json!({ "path": path, "organization": "org" })).expect("a door")
}

#[test]
fn the_defaults_have_no_problems() {
    assert!(keys(|_| {}).is_empty());
}

#[test]
fn only_loopback_is_served_without_a_word_about_trust() {
    for host in ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"] {
        assert!(keys(|config| config.server.host = host.to_owned()).is_empty(), "{host}");
    }
    for host in ["0.0.0.0", "::", "10.0.0.1", "tiercast.example", "web_1", "localhost.example"] {
        assert_eq!(keys(|config| config.server.host = host.to_owned()), ["server.host"; 2], "{host}");
    }
    let with_a_key = keys(|config| {
        config.server.host = "0.0.0.0".to_owned();
        config.auth.allow_trusted = true;
        config.api.keys = vec![api_key("a")];
    });
    assert!(with_a_key.is_empty());
}

#[test]
fn tls_and_proxies_are_for_others_and_need_a_word_about_trust_too() {
    type Change = fn(&mut Config);
    let tls: Change = |config| {
        config.server.tls.cert_file = "cert.pem".to_owned();
        config.server.tls.key_file = "key.pem".to_owned();
    };
    let proxies: Change = |config| config.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    let announced: Change = |config| {
        config.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        config.server.proxy_protocol = true;
    };
    for (change, key) in
        [(tls, "server.tls.cert_file"), (proxies, "server.trusted_proxies"), (announced, "server.trusted_proxies")]
    {
        assert_eq!(keys(change), [key; 2]);
        let door = keys(|config| {
            change(config);
            config.api.keys = vec![api_key("a")];
            config.doors.workmatrix.enabled = true;
            config.doors.workmatrix.organization = "matrix".to_owned();
            config.doors.workmatrix.identity = DoorIdentity::Declared;
        });
        assert!(door.contains(&"doors.workmatrix.identity".to_owned()), "{door:?}");
        let meant = keys(|config| {
            change(config);
            config.auth.allow_trusted = true;
            config.api.allow_keyless = true;
        });
        assert!(meant.is_empty(), "{meant:?}");
    }
}

#[test]
fn a_certificate_comes_with_its_key() {
    let meant = |config: &mut Config| (config.auth.allow_trusted, config.api.allow_keyless) = (true, true);
    let without_key = keys(|config| {
        meant(config);
        config.server.tls.cert_file = "cert.pem".to_owned();
    });
    assert_eq!(without_key, ["server.tls.cert_file"]);
    let without_certificate = keys(|config| {
        meant(config);
        config.server.tls.key_file = "key.pem".to_owned();
    });
    assert_eq!(without_certificate, ["server.tls.key_file"]);
}

#[test]
fn proxies_are_addresses_and_networks() {
    let told = |proxy: &str| {
        keys(|config| {
            (config.auth.allow_trusted, config.api.allow_keyless) = (true, true);
            config.server.trusted_proxies = vec!["192.0.2.1".to_owned(), proxy.to_owned()];
        })
    };
    for proxy in ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "192.0.2.7/32", "::ffff:192.0.2.7"] {
        assert!(told(proxy).is_empty(), "{proxy}");
    }
    for proxy in
        ["", "localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "0.0.0.0/0", "::/0", "10.0.0.1:80", "*", " ::1"]
    {
        assert_eq!(told(proxy), ["server.trusted_proxies[1]"], "{proxy}");
    }
    let nobody = keys(|config| {
        (config.auth.allow_trusted, config.api.allow_keyless) = (true, true);
        config.server.proxy_protocol = true;
    });
    assert_eq!(nobody, ["server.proxy_protocol"]);
}

#[test]
fn hosts_with_a_slip_are_told_once() {
    for host in ["", "127.0.0", "256.1.1.1", "http://a", "a b", "[::1]", "a..b", "-a", "a:80"] {
        assert_eq!(keys(|config| config.server.host = host.to_owned()), ["server.host"], "{host}");
    }
}

#[test]
fn paths_keep_clear_of_each_other_and_of_the_servers_own() {
    for path in ["", "/", "ws", "/ws/", "//ws", "/a//b", "/a/../b", "/{x}", "/a?b", "/api", "/api/ws", "/livez"] {
        assert_eq!(keys(|config| config.server.path = path.to_owned()), ["server.path"], "{path}");
    }
    for path in ["/live", "/v1/ws", "/apis", "/my.app~1"] {
        assert!(keys(|config| config.server.path = path.to_owned()).is_empty(), "{path}");
    }
    let twice = |config: &mut Config| config.server.path_aliases = vec!["/a".to_owned(), "/ws".to_owned()];
    assert_eq!(keys(twice), ["server.path_aliases[1]"]);
}

#[test]
fn paths_of_open_doors_keep_clear_of_each_other() {
    let told = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        open_doors(&mut config);
        change(&mut config);
        problems(&config).into_iter().map(|finding| finding.keys).collect::<Vec<_>>()
    };
    assert!(told(&|_| {}).is_empty());
    let path = told(&|config| config.server.path = "/events/ws".to_owned());
    assert_eq!(path, [["server.path", "doors.apier.enabled"]]);
    let alias = told(&|config| config.server.path_aliases = vec!["/ws/checkins".to_owned()]);
    assert_eq!(alias, [["server.path_aliases[0]", "doors.gym.enabled"]]);
    for (path, by) in [
        ("/events/ws", "doors.apier.enabled"),
        ("/ws/checkins", "doors.gym.enabled"),
        ("/ws", "server.path"),
        ("/socket.io", "server.path_aliases[0]"),
        ("/prod", "doors.apier.paths[0]"),
    ] {
        let apier = told(&|config| config.doors.apier.paths = vec!["/prod".to_owned(), path.to_owned()]);
        assert_eq!(apier, [["doors.apier.paths[1]", by]]);
        let own = told(&|config| {
            config.doors.apier.paths = vec!["/prod".to_owned()];
            config.doors.generic.push(generic(path));
        });
        assert_eq!(own, [["doors.generic[1].path", by]]);
    }
}

#[test]
fn closed_doors_take_no_path() {
    assert!(keys(|config| config.server.path = "/events/ws".to_owned()).is_empty());
    assert!(keys(|config| config.doors.apier.paths = vec!["/ws".to_owned()]).is_empty());
    assert_eq!(keys(|config| config.doors.apier.paths = vec!["ws".to_owned()]), ["doors.apier.paths[0]"]);
}

#[test]
fn dexters_clients_and_services_leave_room_for_other_paths() {
    let told = |path: &str| {
        keys(|config| {
            open_doors(config);
            config.server.path = path.to_owned();
        })
    };
    for path in ["/ws/rt", "/connection", "/rt/broadcast"] {
        assert!(told(path).is_empty(), "{path}");
    }
    for path in ["/connections", "/broadcast", "/issues/live"] {
        assert_eq!(told(path), ["server.path"], "{path}");
        assert!(keys(|config| config.server.path = path.to_owned()).is_empty(), "{path}");
    }
}

#[test]
fn urls_can_be_called() {
    for url in ["", "http://localhost:9000/hook", "https://a.example", "http://[::1]/x?y=z"] {
        assert!(keys(|config| config.escalation.url = url.to_owned()).is_empty(), "{url}");
    }
    for url in ["localhost:9000", "/hook", "ftp://a.example", "http://", "http:///x", "https://a b"] {
        assert_eq!(keys(|config| config.escalation.url = url.to_owned()), ["escalation.url"], "{url}");
    }
}

#[test]
fn origins_are_what_browsers_send() {
    for origin in [
        "*",
        "http://localhost:3000",
        "https://a.example",
        "http://[::1]:5173",
        "capacitor://localhost",
        "https://*.a.example:*",
    ] {
        assert!(keys(|config| config.server.cors_origins = vec![origin.to_owned()]).is_empty(), "{origin}");
    }
    for origin in [
        "",
        "a.example",
        "https://",
        "https://a.example/",
        "https://A.example",
        "https://a.example:x",
        "https://a.example:",
        "https://u@a.example",
        "https://a b",
        "https://a.example?x",
        "https://*.example",
        "https://a.*.example",
        "://a",
    ] {
        let told = keys(|config| config.server.cors_origins = vec!["*".to_owned(), origin.to_owned()]);
        assert_eq!(told, ["server.cors_origins[1]"], "{origin}");
    }
}

#[test]
fn custom_events_take_no_name_that_has_a_meaning() {
    for name in
        ["", "a b", "connect", "kpi:update", "subscribe", "batch", "initial_stats", "presence", "é", &"x".repeat(65)]
    {
        assert_eq!(keys(|config| config.events.custom = vec![event(name, "x")]), ["events.custom[0].name"], "{name}");
    }
    for channel in ["", "Orders", "a:b", "org", "user", "implicit", "all", &"x".repeat(65)] {
        let told = keys(|config| config.events.custom = vec![event("order:new", channel)]);
        assert_eq!(told, ["events.custom[0].channel"], "{channel}");
    }
    let twice = keys(|config| config.events.custom = vec![event("a:b", "kpi"), event("a:b", "x")]);
    assert_eq!(twice, ["events.custom[1].name"]);
}

#[test]
fn freshness_is_of_a_known_channel_each_at_most_once() {
    let freshness = |channel: &str| Freshness { channel: channel.into(), expected_interval_ms: 5_000 };
    let told = |channels: &[&str]| {
        keys(|config| {
            config.events.custom = vec![event("order:new", "orders")];
            config.events.freshness = channels.iter().copied().map(freshness).collect();
        })
    };
    assert!(told(&["kpi", "orders", "notifications"]).is_empty());
    for channel in ["", "all", "presence", "weather", "kpi"] {
        assert_eq!(told(&["kpi", channel]), ["events.freshness[1].channel"], "{channel}");
    }
    for (interval, problems) in [(999, 1), (1_000, 0), (43_200_000, 0), (43_200_001, 1)] {
        let told = keys(|config| {
            config.events.freshness = vec![Freshness { expected_interval_ms: interval, ..freshness("kpi") }];
        });
        assert_eq!(told, vec!["events.freshness[0].expected_interval_ms"; problems], "{interval}");
    }
}

fn relay(name: &str) -> ClientEvent {
    let rule = json!({ "event": name, "action": "relay", "to": "organization", "as": "notification" });
    serde_json::from_value(rule).expect("a rule")
}

fn forward(name: &str, url: &str) -> ClientEvent {
    let url = Some(url.to_owned());
    ClientEvent { action: ClientAction::Forward, to: None, published_as: None, url, ..relay(name) }
}

#[test]
fn rules_for_events_of_clients_have_a_name_of_their_own() {
    let told = |names: &[&str]| keys(|config| config.client_events = names.iter().map(|name| relay(name)).collect());
    assert!(told(&["check_in", "typing", "kpi:update"]).is_empty());
    for name in ["", "a b", "authenticate", "client:subscribe", "message", "ack", "presence", "check_in"] {
        assert_eq!(told(&["check_in", name]), ["client_events[1].event"], "{name}");
    }
}

#[test]
fn what_is_relayed_is_an_event_that_is_known() {
    let told = |rule: ClientEvent| {
        keys(|config| {
            config.events.custom = vec![event("order:new", "orders")];
            config.client_events = vec![rule];
        })
    };
    let under = |name: Option<&str>| ClientEvent { published_as: name.map(Into::into), ..relay("typing") };
    assert!(told(under(Some("order:new"))).is_empty());
    assert!(told(ClientEvent { event: "order:new".into(), ..under(None) }).is_empty());
    assert_eq!(told(under(Some("order:old"))), ["client_events[0].as"]);
    assert_eq!(told(under(None)), ["client_events[0].event"]);
}

#[test]
fn an_action_has_its_own_keys_and_no_others() {
    let told = |rule: ClientEvent| keys(|config| config.client_events = vec![rule]);
    assert!(told(forward("a", "http://localhost/a")).is_empty());
    assert_eq!(told(forward("a", "")), ["client_events[0].action"]);
    assert_eq!(told(forward("a", "localhost")), ["client_events[0].url"]);
    assert_eq!(told(ClientEvent { to: None, ..relay("a") }), ["client_events[0].action"]);
    let mixed = ClientEvent { timeout_ms: Some(1), secret: Some("s".to_owned().into()), ..relay("a") };
    assert_eq!(told(mixed), ["client_events[0].secret", "client_events[0].timeout_ms"]);
    let dropped = ClientEvent { action: ClientAction::Drop, ..relay("a") };
    assert_eq!(told(dropped), ["client_events[0].to", "client_events[0].as"]);
    let (timeout_ms, max_concurrent, retry_ms) = (Some(0), Some(0), Some(0));
    let zero = ClientEvent { timeout_ms, max_concurrent, retry_ms, ..forward("a", "http://localhost/a") };
    let keys = ["client_events[0].timeout_ms", "client_events[0].max_concurrent", "client_events[0].retry_ms"];
    assert_eq!(told(zero), keys);
}

#[test]
fn there_is_room_for_46_channels_of_ones_own() {
    let events = |count: usize| (0..count).map(|n| event(&format!("a:{n}"), &format!("c{n}"))).collect();
    assert!(keys(|config| config.events.custom = events(46)).is_empty());
    assert_eq!(keys(|config| config.events.custom = events(48)), ["events.custom[46].channel"]);
}

#[test]
fn tokens_need_a_long_secret_an_algorithm_and_names_of_claims() {
    let with_secret = |length: usize| keys(|config| config.auth.jwt.secret = "x".repeat(length).into());
    assert_eq!(with_secret(31), ["auth.jwt.secret"]);
    assert!(with_secret(32).is_empty() && with_secret(0).is_empty());
    assert_eq!(keys(|config| config.auth.jwt.algorithms.clear()), ["auth.jwt.algorithms"]);
    assert_eq!(keys(|config| config.auth.jwt.claims.queues.clear()), ["auth.jwt.claims.queues"]);
    assert_eq!(keys(|config| config.auth.jwt.leeway_ms = 3_600_001), ["auth.jwt.leeway_ms"]);
    let mut config = Config::default();
    config.auth.jwt.secret = "thesecret".to_owned().into();
    assert!(!format!("{:?} {:?}", problems(&config), config).contains("thesecret"));
}

#[test]
fn algorithms_of_tokens_have_keys_that_fit_them() {
    use JwtAlgorithm::{EdDsa, Es256, Hs256, Rs256};
    const ALGORITHMS: &str = "auth.jwt.algorithms";
    let told = |algorithms: &[JwtAlgorithm], sources: &[&str]| {
        keys(|config| {
            let jwt = &mut config.auth.jwt;
            jwt.algorithms = algorithms.to_vec();
            for source in sources {
                match *source {
                    "secret" => jwt.secret = "x".repeat(32).into(),
                    "public_key_file" => jwt.public_key_file = "keys.pem".into(),
                    "jwks_file" => jwt.jwks_file = "keys.json".into(),
                    _ => jwt.jwks_url = "https://id.example/keys".into(),
                }
            }
        })
    };
    for (algorithms, sources) in [
        (&[Rs256][..], &[][..]),
        (&[Hs256], &["secret"]),
        (&[Rs256, Es256, EdDsa], &["public_key_file"]),
        (&[Hs256, Rs256], &["secret", "public_key_file"]),
        (&[Hs256, EdDsa], &["jwks_file"]),
        (&[Rs256], &["jwks_url"]),
        (&[Hs256, Rs256], &["secret", "jwks_url"]),
    ] {
        assert!(told(algorithms, sources).is_empty(), "{algorithms:?} {sources:?}");
    }
    assert_eq!(told(&[Rs256], &["secret"]), ["auth.jwt.secret", ALGORITHMS]);
    assert_eq!(told(&[Hs256, Rs256], &["secret"]), [ALGORITHMS]);
    assert_eq!(told(&[Hs256, Rs256], &["public_key_file"]), [ALGORITHMS]);
    assert_eq!(told(&[Hs256], &["secret", "jwks_url"]), ["auth.jwt.jwks_url"]);
    assert_eq!(told(&[Rs256], &["secret", "public_key_file"]), ["auth.jwt.secret"]);
    let required = |names: &[&str]| {
        keys(|config| config.auth.jwt.required_claims = names.iter().map(|name| (*name).to_owned()).collect())
    };
    assert_eq!(required(&["jti", ""]), ["auth.jwt.required_claims[1]"]);
    assert_eq!(keys(|config| config.auth.jwt.claims.roles.clear()), ["auth.jwt.claims.roles"]);
}

#[test]
fn keys_are_fetched_where_nobody_can_change_them_on_their_way() {
    let told = |url: &str| {
        keys(|config| {
            config.auth.jwt.algorithms = vec![JwtAlgorithm::Rs256];
            config.auth.jwt.jwks_url = url.to_owned();
        })
    };
    for url in
        ["", "https://id.example/keys?a=b", "http://localhost:8080/keys", "http://127.0.0.1/", "http://[::1]:80/"]
    {
        assert!(told(url).is_empty(), "{url}");
    }
    for url in [
        "http://id.example/keys",
        "http://10.0.0.1/keys",
        "https://user:word@id.example/keys",
        "https://",
        "/keys",
        "ftp://id.example/keys",
        "file:///etc/keys.json",
        "http://localhost.evil.example/",
    ] {
        assert_eq!(told(url), ["auth.jwt.jwks_url"], "{url}");
    }
}

#[test]
fn api_keys_have_names_hashes_and_rights() {
    assert!(keys(|config| config.api.keys = vec![api_key("a"), api_key("b")]).is_empty());
    let told = keys(|config| {
        let mut bad = api_key("a");
        bad.hash = "tc_something".to_owned();
        bad.rights.clear();
        bad.organizations = Some(Vec::new());
        let mut foreign = api_key(" ");
        foreign.organizations = Some(vec!["org-1".to_owned(), String::new()]);
        config.api.keys = vec![api_key("a"), bad, foreign];
    });
    assert_eq!(
        told,
        [
            "api.keys[1].name",
            "api.keys[1].hash",
            "api.keys[1].rights",
            "api.keys[1].organizations",
            "api.keys[2].name",
            "api.keys[2].organizations[1]"
        ]
    );
}

#[test]
fn levels_are_levels_or_filters() {
    for level in ["info", "DEBUG", "off", "info,tiercast=debug", "tiercast::hub=trace"] {
        assert!(keys(|config| config.logging.level = level.to_owned()).is_empty(), "{level}");
    }
    for level in ["", "inof", "tiercast=loud", "tiercast", "info,"] {
        assert_eq!(keys(|config| config.logging.level = level.to_owned()), ["logging.level"], "{level}");
    }
}

#[test]
fn timeouts_and_limits_leave_room_to_work() {
    let told = keys(|config| {
        config.heartbeat.ping_interval_ms = 0;
        config.limits.max_message_size_bytes = 1_023;
        config.limits.room_cleanup_interval_ms = 999;
        config.log.shards = 1_025;
        config.api.ack_timeout_ms = 70_000;
    });
    assert_eq!(
        told,
        [
            "heartbeat.ping_interval_ms",
            "limits.max_message_size_bytes",
            "limits.room_cleanup_interval_ms",
            "log.shards",
            "api.ack_timeout_ms"
        ]
    );
}

#[test]
fn a_door_for_tokens_needs_a_secret_to_check_them_with() {
    let opened = |secret: &str| {
        keys(|config| {
            let door = &mut config.doors.gym;
            (door.enabled, door.organization) = (true, "gym".to_owned());
            config.auth.jwt.secret = secret.to_owned().into();
        })
    };
    assert_eq!(opened(""), ["doors.gym.identity"]);
    assert!(opened(&"x".repeat(32)).is_empty());
}

#[test]
fn a_door_knows_the_channels_of_all_declared_events() {
    let told = |channel: &str| {
        keys(|config| {
            open_doors(config);
            config.events.custom = (0..60).map(|n| event(&format!("a:{n}"), "a")).collect();
            config.events.custom.push(event("order:new", "orders"));
            config.doors.generic[0].channels = vec![channel.to_owned()];
            config.doors.dexter.anonymous_channels = vec![channel.to_owned()];
        })
    };
    assert!(told("orders").is_empty());
    assert_eq!(told("order"), ["doors.dexter.anonymous_channels[0]", "doors.generic[0].channels[0]"]);
}

#[test]
fn a_door_has_an_identity_that_its_clients_can_work_under() {
    use DoorIdentity::{Anonymous, Declared, Token};
    let all = [Token, Declared, Anonymous];
    let told = |set: &dyn Fn(&mut Config, DoorIdentity)| {
        let allowed = |identity: &DoorIdentity| {
            let change = |config: &mut Config| {
                open_doors(config);
                config.doors.dexter.anonymous_channels = vec!["issues".to_owned()];
                config.doors.generic[0].anonymous_channels = vec!["issues".to_owned()];
                set(config, *identity);
            };
            keys(change).is_empty()
        };
        all.into_iter().filter(allowed).collect::<Vec<_>>()
    };
    assert_eq!(told(&|config, identity| config.doors.workmatrix.identity = identity), [Token, Declared]);
    assert_eq!(told(&|config, identity| config.doors.dexter.identity = identity), [Token, Anonymous]);
    assert_eq!(told(&|config, identity| config.doors.gym.identity = identity), [Token]);
    assert_eq!(told(&|config, identity| config.doors.apier.identity = identity), [Token, Anonymous]);
    assert_eq!(told(&|config, identity| config.doors.generic[0].identity = identity), all);
}

#[test]
fn an_identity_that_leads_nowhere_is_told_with_those_that_do() {
    let mut config = Config::default();
    open_doors(&mut config);
    config.doors.gym.identity = DoorIdentity::Anonymous;
    config.doors.dexter.identity = DoorIdentity::Declared;
    let told: Vec<_> = problems(&config).into_iter().map(|finding| (finding.keys.concat(), finding.message)).collect();
    let words = |expected: &str, found: &str| {
        format!("expected {expected}, found \"{found}\", with which clients of this door could do nothing")
    };
    assert_eq!(
        told,
        [
            ("doors.dexter.identity".to_owned(), words(r#""token" or "anonymous""#, "declared")),
            ("doors.gym.identity".to_owned(), words(r#""token""#, "anonymous")),
        ]
    );
}

#[test]
fn anonymous_clients_need_channels() {
    let told = keys(|config| {
        open_doors(config);
        config.doors.dexter.identity = DoorIdentity::Anonymous;
        config.doors.apier.anonymous_channels.clear();
        config.doors.generic[0].identity = DoorIdentity::Anonymous;
    });
    assert_eq!(told, ["doors.dexter.identity", "doors.apier.identity", "doors.generic[0].identity"]);
}

#[test]
fn visitors_of_dexter_see_neither_people_nor_single_issues() {
    let names = ["issues", "presence", "alerts", "issue", "project", "global"];
    let told = keys(|config| {
        open_doors(config);
        config.doors.dexter.anonymous_channels = names.map(String::from).to_vec();
    });
    assert_eq!(told, [1, 3, 4].map(|index| format!("doors.dexter.anonymous_channels[{index}]")));
}

#[test]
fn names_of_a_generic_door_mean_one_thing_each() {
    let told = |names: &[(&str, &str)]| {
        let mut door = serde_json::json!({ "path": "/live", "organization": "org" });
        for (field, name) in names {
            door[*field] = (*name).into();
        }
        let door: GenericDoor = serde_json::from_value(door).expect("a door");
        keys(|config| {
            open_doors(config);
            config.doors.generic = vec![door];
        })
    };
    assert!(told(&[("ping", "hb"), ("pong", "ping"), ("type_key", "data"), ("data_key", "type")]).is_empty());
    for (field, name, at) in [
        ("type_key", "", "type_key"),
        ("type_key", "data", "data_key"),
        ("id_key", "type", "id_key"),
        ("id_key", "message_id", "id_key"),
        ("data_key", "position", "data_key"),
        ("type_key", "timestamp", "type_key"),
        ("data_key", "requires_ack", "data_key"),
        ("pong", "", "pong"),
        ("ping", "pong", "pong"),
        ("error", "subscribe", "error"),
        ("subscribe", "authenticate", "authenticate"),
        ("unsubscribe", "subscribe", "unsubscribe"),
    ] {
        assert_eq!(told(&[(field, name)]), [format!("doors.generic[0].{at}")], "{field} {name}");
    }
}

#[test]
fn only_a_cluster_publishes_what_comes_through_redis() {
    for change in [|cluster: &mut Cluster| cluster.ingress = true, |cluster: &mut Cluster| cluster.emitter = true] {
        assert_eq!(keys(|config| change(&mut config.cluster)).len(), 1);
        let in_a_cluster = |config: &mut Config| {
            config.log.store = crate::config::LogStore::Redis;
            config.cluster.redis_urls = vec!["redis://127.0.0.1".to_owned().into()];
            change(&mut config.cluster);
        };
        assert!(keys(in_a_cluster).is_empty());
    }
    for key in ["", "a#b", "a\n", &"x".repeat(65)] {
        assert_eq!(keys(|config| config.cluster.emitter_key = key.to_owned()), ["cluster.emitter_key"]);
    }
}
