//! Certificates for the public front from a real authority, by every kind of proof.
//!
//! ```text
//!  client ── gw ── ca ─ pebble (the authority) ─ unbound (whom it asks for names)
//!            └ front :443 :80 :53 ─▶ nginx :8080 (plain), :8443 (its own TLS), :8081 (its own challenges)
//!   curl, h2load, openssl             dehydrated, an ACME client of the service behind
//! ```

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sinew_tests::acme::{Authority, Temper};
use sinew_tests::front::{Front, Pair, nginx};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Proc};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(60);

/// Host and how it is proved; one for each kind.
const HOSTS: &[(&str, &str)] =
    &[("app.lab", "tls-alpn-01"), ("plain.lab", "http-01"), ("*.wild.lab", "dns-01")];

struct Stage {
    authority: Authority,
    front: Front,
    nginx: Proc,
    own: Pair,
    gateway: String,
    config: String,
}

fn config(lab: &Lab, authority: &Authority, hosts: &[(&str, &str)]) -> String {
    let wanted: Vec<_> = hosts
        .iter()
        .map(|(host, kinds)| format!("{{ host = '{host}', challenges = ['{kinds}'] }}"))
        .collect();
    format!(
        "log = true\n[acme]\ndirectory = '{}'\nroots = '{}'\nfolder = '{}'\nretry = 1\nhosts = [{}]\n\
         dns = '{}:53'\n[front]\ndefault_host = 'app.lab'\n\
         [[front.listeners]]\naddress = '0.0.0.0:443'\nprotocol = 'https'\n\
         [[front.listeners]]\naddress = '0.0.0.0:80'\nprotocol = 'http'\n\
         [[front.services]]\nname = 'app'\nmode = 'http'\nhosts = ['app.lab', 'plain.lab', '*.wild.lab']\n\
         backends = [{{ target = '127.0.0.1:8080' }}]\n\
         [[front.services]]\nname = 'thru'\nmode = 'tls-passthrough'\nhosts = ['thru.lab']\n\
         backends = [{{ target = '127.0.0.1:8443' }}]\nhttp01 = '127.0.0.1:8081'\n",
        authority.directory(),
        authority.own_root().display(),
        lab.dir().join("acme").display(),
        wanted.join(", "),
        lab.underlay("gw", "ca"),
    )
}

fn servers(pair: &Pair) -> String {
    format!(
        "server {{ listen 8080; }} server {{ listen 8081; }}\n\
         server {{ listen 8443 ssl; ssl_certificate {}; ssl_certificate_key {}; }}",
        pair.chain.display(),
        pair.key.display()
    )
}

fn stage(lab: &mut Lab, temper: Temper, hosts: &[(&str, &str)]) -> Result<Stage> {
    lab.line(&["client", "gw", "ca"])?;
    let folder = lab.dir().to_owned();
    std::fs::create_dir_all(folder.join("www"))?;
    std::fs::write(folder.join("www/small"), "small\n")?;
    let own = Pair::make(&folder, "own", &["thru.lab"])?;
    let nginx = nginx(lab.ns("gw"), &folder, "backend", &servers(&own))?;
    wait::until("nginx listens", DEADLINE, || lab.ns("gw").listens(8443))?;
    let authority = Authority::start(lab, "ca", "gw", temper, &["wild.lab"])?;
    let config = config(lab, &authority, hosts);
    let front = Front::start(lab.ns("gw"), &folder, &config)?;
    let gateway = lab.underlay("gw", "client");
    Ok(Stage { authority, front, nginx, own, gateway, config })
}

impl Stage {
    fn curl(&self, lab: &Lab, root: &Path, args: &[&str]) -> Result<String> {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(root);
        for host in ["app.lab", "plain.lab", "x.wild.lab", "thru.lab"] {
            for port in [443, 80] {
                command.args(["--resolve", &format!("{host}:{port}:{}", self.gateway)]);
            }
        }
        process::run_ok(command.args(args), DEADLINE)
    }

    /// Waits until the front has taken a certificate for `host` into use for the `count`th time.
    fn installed(&self, host: &str, count: usize) -> Result<()> {
        let line = format!("certificate for {host}\n");
        let seen = || self.front.log().matches(&line).count() >= count;
        wait::until(&format!("certificate {count} for {host}"), DEADLINE, seen)
    }

    /// Serial number and end of the certificate that is shown for `host`; without a name if it is empty.
    fn shown(&self, lab: &Lab, host: &str) -> Result<String> {
        let name = if host.is_empty() { "-noservername".to_owned() } else { format!("-servername {host}") };
        let script = format!(
            "openssl s_client -connect {}:443 {name} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            self.gateway
        );
        process::run_ok(lab.ns("client").command("sh").args(["-c", &script]), DEADLINE)
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[test]
fn hosts_are_proved_in_three_ways_although_every_third_nonce_is_refused() {
    run_lab("acme3", |lab| {
        let temper = Temper { nonce_reject: 30, ..Temper::default() };
        let mut stage = stage(lab, temper, HOSTS)?;
        for (host, _) in HOSTS {
            stage.installed(host, 1)?;
        }
        let root = stage.authority.root(lab)?;
        for host in ["app.lab", "plain.lab", "x.wild.lab"] {
            let said = stage.curl(lab, &root, &[&format!("https://{host}/small")])?;
            ensure!(said == "small\n", "{host}: {said}");
        }
        ensure!(stage.authority.log().contains("reject 30% of good nonces"), "it refuses none");
        let kept = files(&lab.dir().join("acme"))?;
        ensure!(kept.len() >= 4, "{kept:?}");
        for file in &kept {
            let mode = std::fs::metadata(file)?.permissions().mode() & 0o7777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", file.display());
        }
        // Clients that name no host get the default one's certificate, and a proof is over when it is over.
        ensure!(stage.shown(lab, "")? == stage.shown(lab, "app.lab")?);
        let path = "http://app.lab/.well-known/acme-challenge/none";
        let said = stage.curl(lab, &root, &["-o", "/dev/null", "-w", "%{http_code}", path])?;
        ensure!(said == "404", "{said}");

        let (orders, serial) = (stage.authority.orders(), stage.shown(lab, "app.lab")?);
        ensure!(stage.front.stop()? == Some(0), "{}", stage.front.log());
        stage.front = Front::start(lab.ns("gw"), lab.dir(), &stage.config)?;
        let valid = |host: &serde_json::Value| host["state"] == "valid" && host["failures"] == 0;
        wait::success("all are valid after a restart", DEADLINE, || {
            let hosts = stage.front.hosts()?;
            ensure!(hosts.len() == HOSTS.len() && hosts.iter().all(valid), "{hosts:?}");
            Ok(())
        })?;
        ensure!(stage.shown(lab, "app.lab")? == serial, "another certificate");
        ensure!(stage.authority.orders() == orders, "a restart has ordered again");
        Ok(())
    });
}

#[test]
fn short_lived_certificates_are_exchanged_under_load_and_no_request_fails() {
    run_lab("acmeswap", |lab| {
        // Renewed after 6 s.
        let temper = Temper { validity: 9, ..Temper::default() };
        let stage = stage(lab, temper, &[("app.lab", "tls-alpn-01")])?;
        stage.installed("app.lab", 1)?;
        let first = stage.shown(lab, "app.lab")?;
        let mut command = lab.ns("client").command("h2load");
        command.args([
            "-c8",
            "-m2",
            "-D10",
            &format!("--connect-to={}", stage.gateway),
            "https://app.lab/small",
        ]);
        let mut load = Proc::spawn(&mut command, &lab.dir().join("load.log"))?;
        // One connection that lives through all of it: a body that comes slowly.
        let mut slow = slow_upload(lab, &stage)?;
        stage.installed("app.lab", 3)?;
        load.wait(DEADLINE)?;
        let log = load.log();
        let line = log.lines().find(|line| line.starts_with("requests:")).context(log.clone())?;
        ensure!(line.contains(" 0 failed, 0 errored, 0 timeout"), "{line}");
        ensure!(slow.wait(DEADLINE)? == Some(0) && slow.log().contains("small"), "{}", slow.log());
        ensure!(stage.shown(lab, "app.lab")? != first);
        eprintln!("two renewals meanwhile; {line}");
        Ok(())
    });
}

/// A client that keeps one TLS connection for 12 s and asks once a second.
fn slow_upload(lab: &Lab, stage: &Stage) -> Result<Proc> {
    let ask = "GET /small HTTP/1.1\\r\\nHost: app.lab\\r\\n";
    let script = format!(
        "(for n in 1 2 3 4 5 6 7 8 9 10 11; do printf '{ask}\\r\\n'; sleep 1; done; \
          printf '{ask}Connection: close\\r\\n\\r\\n'; sleep 1) | \
         openssl s_client -quiet -connect {}:443 -servername app.lab 2>/dev/null | tee /dev/stderr | \
         grep -c '^small' | grep -qx 12",
        stage.gateway
    );
    let mut command = lab.ns("client").command("sh");
    Proc::spawn(command.args(["-c", &script]), &lab.dir().join("slow.log"))
}

#[test]
fn a_host_that_cannot_be_proved_waits_longer_and_longer_and_is_served_once_it_can() {
    run_lab("acmefail", |lab| {
        let mut stage = stage(lab, Temper::default(), &[])?;
        // The name leads to a machine that is not the gateway.
        let (wrong, right) = (lab.underlay("ca", "gw"), lab.underlay("gw", "ca"));
        stage.authority.resolve(lab, &wrong, &right, &["wild.lab"])?;
        let start = Instant::now();
        stage.front.reload(&config(lab, &stage.authority, &[("app.lab", "tls-alpn-01")]))?;
        let failures = |front: &Front| -> Result<u64> {
            Ok(front.hosts()?.first().and_then(|host| host["failures"].as_u64()).unwrap_or(0))
        };
        wait::success("three failures", DEADLINE, || {
            ensure!(failures(&stage.front)? >= 3);
            Ok(())
        })?;
        // 1 + 2 s at least have passed between three tries, less a quarter each.
        ensure!(start.elapsed() >= Duration::from_millis(2250), "{:?}", start.elapsed());
        let host = stage.front.hosts()?.remove(0);
        let told = host["last_error"].as_str().unwrap_or_default();
        ensure!(host["state"] == "failing" && told.contains("tls-alpn-01"), "{host}");
        eprintln!("{told}");
        let placed = stage.authority.orders();
        ensure!(placed <= 4, "{placed} orders for three failures");
        // A restart does not begin to knock again.
        stage.front.stop()?;
        stage.front = Front::start(
            lab.ns("gw"),
            lab.dir(),
            &config(lab, &stage.authority, &[("app.lab", "tls-alpn-01")]),
        )?;
        wait::success("it remembers", DEADLINE, || {
            ensure!(failures(&stage.front)? >= 3);
            Ok(())
        })?;
        stage.authority.resolve(lab, &right, &right, &["wild.lab"])?;
        stage.installed("app.lab", 1)?;

        // The authority goes away, and comes back without a memory: with another account, all is well.
        stage.authority.stop()?;
        stage.front.process().signal(Signal::SIGUSR2)?;
        wait::success("the renewal fails", DEADLINE, || {
            let host = stage.front.hosts()?.remove(0);
            ensure!(
                host["state"] == "valid" && host["last_error"].is_string() && host["failures"] == 0,
                "{host}"
            );
            Ok(())
        })?;
        stage.authority.revive(lab)?;
        stage.installed("app.lab", 2)?;
        let root = stage.authority.root(lab)?;
        ensure!(stage.curl(lab, &root, &["https://app.lab/small"])? == "small\n");
        Ok(())
    });
}

#[test]
fn a_service_behind_passthrough_orders_its_own_certificate() {
    run_lab("acmethru", |lab| {
        // The client does not ask again when a nonce is refused.
        let mut stage = stage(lab, Temper { nonce_reject: 0, ..Temper::default() }, &[])?;
        let folder = lab.dir().join("dehydrated");
        let challenges = lab.dir().join("www/.well-known/acme-challenge");
        std::fs::create_dir_all(&challenges)?;
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("config");
        std::fs::write(
            &file,
            format!(
                "CA={}\nBASEDIR={}\nWELLKNOWN={}\nCHALLENGETYPE=http-01\nKEY_ALGO=prime256v1\n\
                 CURL_OPTS='--cacert {}'\nIP_VERSION=4\n",
                stage.authority.directory(),
                folder.display(),
                challenges.display(),
                stage.authority.own_root().display()
            ),
        )?;
        let mut command = lab.ns("gw").command("dehydrated");
        command.arg("--config").arg(&file).args(["--register", "--accept-terms"]);
        process::run_ok(&mut command, DEADLINE)?;
        let mut command = lab.ns("gw").command("dehydrated");
        command.arg("--config").arg(&file).args(["--cron", "--domain", "thru.lab"]);
        process::run_ok(&mut command, DEADLINE)?;
        stage.nginx.kill();
        let certs = folder.join("certs/thru.lab");
        stage.own = Pair { chain: certs.join("fullchain.pem"), key: certs.join("privkey.pem") };
        stage.nginx = nginx(lab.ns("gw"), lab.dir(), "backend2", &servers(&stage.own))?;
        let root = stage.authority.root(lab)?;
        wait::success("its certificate is seen", DEADLINE, || {
            let said = stage.curl(lab, &root, &["https://thru.lab/small"])?;
            ensure!(said == "small\n", "{said}");
            Ok(())
        })?;
        // Nothing else of that backend is reached without TLS.
        let said =
            stage.curl(lab, &root, &["-o", "/dev/null", "-w", "%{http_code}", "http://thru.lab/small"])?;
        ensure!(said == "301", "{said}");
        Ok(())
    });
}
