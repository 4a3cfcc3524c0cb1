//! What people get wrong: each mistake gets one clear line and the exit code of the contract
//! (1 usage or configuration, 2 the host cannot be set up), and nothing starts half-configured.
//!
//! ```text
//!   a ───── b
//! ```

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::process::{Output, run};
use sinew_tests::requirements::Bins;
use sinew_tests::sinewd::{NodeConfig, PORT};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `sinewd` on a's configuration to its end.
fn sinewd(lab: &mut Lab, prefix: &[&str], args: &[&str]) -> Result<Output> {
    let bin = Bins::get()?.sinewd.to_string_lossy().into_owned();
    let file = lab.config("a").file();
    let mut words: Vec<&str> = prefix.to_vec();
    words.push(&bin);
    let mut command: Command = lab.ns("a").command(words[0]);
    command.args(&words[1..]).arg("--config").arg(file).args(args);
    run(&mut command, DEADLINE)
}

/// The complaint is one line, names every one of `words`, and the exit code is `code`.
fn expect(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    ensure!(output.code == Some(code), "exit {:?} instead of {code}: {}", output.code, output.text());
    let complaints: Vec<_> = output.stderr.lines().filter(|line| is_complaint(line)).collect();
    ensure!(complaints.len() == 1, "not one line: {}", output.stderr);
    for word in words {
        let said = complaints[0].to_lowercase().contains(&word.to_lowercase());
        ensure!(said, "`{word}` is not in: {}", complaints[0]);
    }
    Ok(())
}

/// Progress at INFO may come before the complaint; nothing else may.
fn is_complaint(line: &str) -> bool {
    !line.trim().is_empty() && !line.contains(" INFO ") && !line.contains(" DEBUG ")
}

/// A mistake in the configuration file of `a`.
type Spoil = fn(&mut NodeConfig, &str);

/// Name, what is done to a's configuration (with b's URI at hand), words of the complaint.
const BAD_FILES: &[(&str, Spoil, &[&str])] = &[
    ("an unknown key", |c, _| c.extra = "\n[mesh]\nsecert_file = \"/x\"\n".into(), &["secert_file"]),
    ("an unknown section", |c, _| c.extra = "\n[tunn]\n".into(), &["tunn"]),
    ("not TOML", |c, _| c.extra = "\n[[[\n".into(), &["sinewd.toml"]),
    ("a bad value", |c, _| c.class = "boss", &["class", "boss"]),
    ("a bad listen address", |c, _| c.listen = "udp = [\"everywhere\"]\n".into(), &["everywhere"]),
    ("a bad scheme", |c, _| c.peers.push(("http://x".into(), 0)), &["sinew://"]),
    ("a URI without a key", |c, _| c.peers.push(("sinew://10.0.0.1:7463".into(), 0)), &["node id"]),
    ("a bad port", |c, uri| c.peers.push((uri.replace(":7463", ":0"), 0)), &["port"]),
    ("an unknown carrier", |c, uri| c.peers.push((uri.replace("via=udp", "via=smoke"), 0)), &["smoke"]),
    (
        "a mesh address as endpoint",
        |c, uri| {
            let (key, _) = uri.split_once('@').unwrap_or_default();
            c.peers.push((format!("{key}@[fd3f::1]:7463"), 0));
        },
        &["fd3f::1", "mesh address"],
    ),
    ("a bad inbound rule", |c, _| c.inbound = "[\"tcp/eighty\"]".into(), &["eighty"]),
];

#[test]
fn each_mistake_in_the_file_is_named() {
    run_lab("file", |lab| {
        lab.line(&["a", "b"])?;
        let address = lab.underlay("b", "a");
        let uri = lab.uri("b", &address)?;
        lab.key("a")?;
        let good = lab.config("a").clone();
        for (name, spoil, words) in BAD_FILES {
            let mut bad = good.clone();
            spoil(&mut bad, &uri);
            bad.write()?;
            for args in [&[][..], &["--check"]] {
                let output = sinewd(lab, &[], args).and_then(|output| expect(&output, 1, words));
                output.with_context(|| format!("{name} {args:?}"))?;
            }
        }
        good.write()?;
        let fine = sinewd(lab, &[], &["--check"])?;
        ensure!(fine.code == Some(0), "a good file is refused: {}", fine.text());
        Ok(())
    });
}

#[test]
fn the_own_key_as_a_peer_is_refused() {
    run_lab("ownkey", |lab| {
        lab.line(&["a", "b"])?;
        let address = lab.underlay("b", "a");
        let own = lab.uri("a", &address)?;
        lab.config("a").peers.push((own, 0));
        lab.config("a").write()?;
        expect(&sinewd(lab, &[], &[])?, 1, &["own key"])
    });
}

#[test]
fn the_same_peer_twice_is_refused() {
    run_lab("twice", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer("a", "b")?;
        lab.peer("a", "b")?;
        lab.key("a")?;
        lab.config("a").write()?;
        expect(&sinewd(lab, &[], &["--check"])?, 1, &["twice"])
    });
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    run_lab("keymode", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        lab.config("a").write()?;
        let file = lab.config("a").key_file().to_string_lossy().into_owned();
        lab.ns("a").run(&["chmod", "0644", &file])?;
        expect(&sinewd(lab, &[], &[])?, 1, &["node.key", "chmod 600"])?;
        lab.ns("a").run(&["chmod", "0600", &file])?;
        std::fs::write(&file, b"too short")?;
        expect(&sinewd(lab, &[], &[])?, 1, &["node.key"])
    });
}

#[test]
fn a_key_file_that_cannot_be_read_is_named() {
    run_lab("keydir", |lab| {
        lab.line(&["a", "b"])?;
        std::fs::create_dir_all(lab.config("a").key_file())?;
        lab.config("a").write()?;
        expect(&sinewd(lab, &[], &[])?, 1, &["node.key"])
    });
}

#[test]
fn an_occupied_port_is_named() {
    run_lab("port", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        lab.config("a").write()?;
        let held = lab.ns("a").enter(|| std::net::UdpSocket::bind(("0.0.0.0", PORT)))??;
        expect(&sinewd(lab, &[], &[])?, 2, &[&PORT.to_string(), "in use"])?;
        drop(held);
        let held = lab.ns("a").enter(|| std::net::TcpListener::bind(("0.0.0.0", PORT)))??;
        expect(&sinewd(lab, &[], &[])?, 2, &[&PORT.to_string(), "in use"])?;
        drop(held);
        lab.config("a").extra = "\n[metrics]\nlisten = \"127.0.0.1:9463\"\n".into();
        lab.config("a").write()?;
        let held = lab.ns("a").enter(|| std::net::TcpListener::bind("127.0.0.1:9463"))??;
        expect(&sinewd(lab, &[], &[])?, 2, &["[metrics] listen", "127.0.0.1:9463", "in use"])?;
        drop(held);
        Ok(())
    });
}

#[test]
fn a_missing_tun_device_is_named() {
    run_lab("notun", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        lab.config("a").write()?;
        // An empty folder over /dev/net, in a mount namespace of this one process.
        let hide = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$@\"", "sh"];
        expect(&sinewd(lab, &hide, &[])?, 2, &["/dev/net/tun"])
    });
}

#[test]
fn a_missing_privilege_is_named() {
    run_lab("nopriv", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        lab.config("a").write()?;
        let drop_net_admin = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
        expect(&sinewd(lab, &drop_net_admin, &[])?, 2, &["net_admin"])
    });
}

#[test]
fn a_second_daemon_on_one_socket_is_refused_and_the_first_lives_on() {
    run_lab("second", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let output = sinewd(lab, &[], &[])?;
        ensure!(output.code == Some(2), "exit {:?}: {}", output.code, output.text());
        lab.wait_mesh()
    });
}

#[test]
fn a_peer_with_another_key_stays_out_and_the_reason_is_shown() {
    run_lab("wrongkey", |lab| {
        lab.line(&["a", "b", "c"])?;
        // a expects c's key where b answers.
        let address = lab.underlay("b", "a");
        let uri = lab.uri("c", &address)?;
        let expected = lab.key("c")?.node_id;
        lab.config("a").peers.push((uri, 0));
        lab.key("b")?;
        lab.start("a")?;
        lab.start("b")?;
        lab.wait_ready("b")?;
        wait::until("the peer's last error", DEADLINE, || {
            let peers = lab.cli("a").list(&["peers"], "peers").unwrap_or_default();
            let peer = peers.iter().find(|peer| text(peer, "node_id") == expected);
            peer.is_some_and(|peer| text(peer, "state") != "up" && !text(peer, "last_error").is_empty())
        })?;
        let output = lab.cli("a").run(&["ping", &expected, "-c", "1"])?;
        ensure!(matches!(output.code, Some(3 | 4)), "exit {:?}: {}", output.code, output.text());
        Ok(())
    });
}

#[test]
fn a_link_of_less_than_1200_bytes_is_refused_and_the_reason_is_shown() {
    run_lab("narrow", |lab| {
        lab.node("a")?;
        lab.node("b")?;
        // 1172 bytes are left for a datagram.
        lab.link_mtu("a", "b", 1200)?;
        lab.peer_links(Dial::Both)?;
        lab.start_all()?;
        for (at, other) in [("a", "b"), ("b", "a")] {
            let expected = lab.key(other)?.node_id;
            wait::until("the reason among the peers", DEADLINE, || {
                let peers = lab.cli(at).list(&["peers"], "peers").unwrap_or_default();
                let peer = peers.iter().find(|peer| text(peer, "node_id") == expected);
                peer.is_some_and(|peer| {
                    text(peer, "state") != "up" && text(peer, "last_error").contains("1,200 bytes")
                })
            })?;
            let process = lab.daemon(at)?.process();
            process.wait_log("carries less than 1,200 bytes a packet", DEADLINE)?;
            let said = process.log().matches("carries less than 1,200 bytes a packet").count();
            ensure!(said == 1, "{at} says it {said} times");
        }
        // The advice in that line helps: nobody has to restart anything.
        for (at, interface) in [("a", interface("b")), ("b", interface("a"))] {
            lab.ns(at).ip(&["link", "set", &interface, "mtu", "1228"])?;
        }
        lab.wait_mesh()
    });
}

#[test]
fn two_nodes_with_one_key_are_told_so() {
    run_lab("onekey", |lab| {
        lab.errors_expected = true;
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        let key = std::fs::read(lab.config("a").key_file())?;
        let copy = lab.config("b").key_file();
        std::fs::write(&copy, key)?;
        let path = copy.to_string_lossy().into_owned();
        lab.ns("b").run(&["chmod", "0600", &path])?;
        lab.adopt_key("b")?;
        // b dials a by the key that is also its own: refused as a mistake in its file …
        lab.peer("b", "a")?;
        lab.config("b").write()?;
        let bin = Bins::get()?.sinewd.to_string_lossy().into_owned();
        let mut command = lab.ns("b").command(&bin);
        let file = lab.config("b").file();
        let output = run(command.arg("--config").arg(file), DEADLINE)?;
        expect(&output, 1, &["own key"])
    });
}

#[test]
fn two_nodes_with_one_key_that_never_meet_are_reported() {
    // Far apart both find out; where they take one neighbour's session from each other, it does.
    for (name, row, told) in
        [("twins", &["a", "m", "n", "b"][..], &["a", "b"][..]), ("flap", &["a", "m", "b"], &["m"])]
    {
        run_lab(name, |lab| {
            twins(lab, row)?;
            lab.start_all()?;
            wait::until("the twins are reported", TWINS, || {
                told.iter().all(|name| !duplicates(lab, name).is_empty())
            })
            .with_context(|| routes_everywhere(lab, row))?;
            let key = lab.key("a")?.node_id;
            for name in told {
                let whose = if *name == "m" { &key } else { "this node's key" };
                let entries = duplicates(lab, name);
                let [entry] = &entries[..] else { bail!("{name}: {entries:?}") };
                ensure!(text(entry, "text").contains(whose), "{name}: {entry}");
                ensure!(text(entry, "fix").contains("sinew key new"), "{name}: {entry}");
                let log = std::fs::read_to_string(lab.config(name).log())?;
                let lines: Vec<_> = log.lines().filter(|line| line.contains("sinew key new")).collect();
                ensure!(lines.len() == 1 && lines[0].contains(whose), "{name}: {lines:?}");
            }
            Ok(())
        });
    }
}

/// Longer than the neighbour of two takes to notice twice that the other one is gone.
const TWINS: Duration = Duration::from_secs(90);

/// A row whose first and last have one key; each dials inwards.
fn twins(lab: &mut Lab, row: &[&str]) -> Result<()> {
    lab.line(row)?;
    lab.key("a")?;
    let copy = lab.config("b").key_file();
    std::fs::copy(lab.config("a").key_file(), copy)?;
    lab.adopt_key("b")?;
    for pair in row.windows(2) {
        let (from, to) = if pair[1] == "b" { (pair[1], pair[0]) } else { (pair[0], pair[1]) };
        lab.peer(from, to)?;
    }
    Ok(())
}

/// What a machine's status says about keys that two use.
fn duplicates(lab: &Lab, name: &str) -> Vec<serde_json::Value> {
    let status = lab.cli(name).json(&["status"]).unwrap_or_default();
    let health = status["health"].as_array().cloned().unwrap_or_default();
    health.into_iter().filter(|entry| text(entry, "code") == "duplicate_identity").collect()
}

/// What each machine knows of the others, for the message.
fn routes_everywhere(lab: &Lab, row: &[&str]) -> String {
    let table = |name: &&str| {
        let routes = lab.cli(name).run(&["routes", "all", "--wide"]);
        format!("{name}\n{}", routes.map(|output| output.text()).unwrap_or_default())
    };
    row.iter().map(table).collect()
}

#[test]
fn the_command_says_what_is_wrong_with_its_own_arguments() {
    run_lab("usage", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let cli = lab.cli("a");
        for (args, code) in [
            (&["fly"][..], 1),
            (&["ping"], 1),
            (&["peers", "add", "sinew://nonsense"], 1),
            (&["peers", "rm", "nobody"], 4),
            (&["ping", "nobody"], 4),
            (&["trace", "fd3f::1"], 4),
        ] {
            let output = cli.run(args)?;
            ensure!(output.code == Some(code), "sinew {args:?}: exit {:?}: {}", output.code, output.text());
            ensure!(!output.stderr.trim().is_empty(), "sinew {args:?} gives no reason");
        }
        Ok(())
    });
}
