//! The public front with real programs around it: curl and h2load before, nginx behind.
//!
//! ```text
//!   client ───────── gw ── front :443 :80 ──▶ nginx :8080 (http), :8443 (its own TLS)
//!   curl, h2load
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::front::{Front, Pair, nginx};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Proc};
use sinew_tests::wait;
use sinew_tests::workload::payload_file;

const DEADLINE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

const HOSTS: &[&str] = &["app.lab", "*.wild.lab"];

const SERVERS: &str = r#"
    server { listen 8080; location /echo { return 200 "$http_x_forwarded_for|$http_host|$server_protocol|$http_x_request_id"; }
             location /put { proxy_pass http://127.0.0.1:8082; } }
    server { listen 8082; location / { return 200 "$content_length"; } }
"#;

struct Stage {
    front: Front,
    _nginx: Proc,
    config: String,
    trust: Pair,
    own: Pair,
    address: String,
}

fn stage(lab: &mut Lab) -> Result<Stage> {
    lab.line(&["client", "gw"])?;
    let folder = lab.dir().to_owned();
    std::fs::create_dir_all(folder.join("www"))?;
    payload_file(&folder.join("www/large"), 64 * MIB)?;
    std::fs::write(folder.join("www/small"), "small\n")?;
    let trust = Pair::make(&folder, "front", HOSTS)?;
    let own = Pair::make(&folder, "own", &["thru.lab"])?;
    let tls = format!(
        "{SERVERS} server {{ listen 8443 ssl; ssl_certificate {}; ssl_certificate_key {}; }}",
        own.chain.display(),
        own.key.display()
    );
    let nginx = nginx(lab.ns("gw"), &folder, "backend", &tls)?;
    wait::until("nginx listens", DEADLINE, || lab.ns("gw").listens(8443))?;
    let config = config(&trust);
    let front = Front::start(lab.ns("gw"), &folder, &config)?;
    let address = lab.underlay("gw", "client");
    Ok(Stage { front, _nginx: nginx, config, trust, own, address })
}

fn config(trust: &Pair) -> String {
    let listeners = "log = true\n[front]\n[[front.listeners]]\naddress = '0.0.0.0:443'\nprotocol = 'https'\n\
        [[front.listeners]]\naddress = '0.0.0.0:80'\nprotocol = 'http'\n";
    let services = "[[front.services]]\nname = 'app'\nmode = 'http'\nhosts = ['app.lab', '*.wild.lab']\n\
        backends = [{ target = '127.0.0.1:8080' }]\ncheck = { path = '/small' }\n\
        [[front.services]]\nname = 'thru'\nmode = 'tls-passthrough'\nhosts = ['thru.lab']\n\
        backends = [{ target = '127.0.0.1:8443' }]\n";
    // Certificates come before: they are not in `[front]`.
    let (log, rest) = listeners.split_once('\n').unwrap_or_default();
    format!("{log}\n{}{rest}{services}", trust.toml(HOSTS))
}

impl Stage {
    /// curl on the client, to `https://HOST/…`, trusting `trust`.
    fn curl(&self, lab: &Lab, trust: &Pair, args: &[&str]) -> Result<String> {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "--max-time", "50", "--cacert"]).arg(&trust.chain);
        for host in ["app.lab", "x.wild.lab", "thru.lab"] {
            for port in [443, 80] {
                command.args(["--resolve", &format!("{host}:{port}:{}", self.address)]);
            }
        }
        process::run_ok(command.args(args), DEADLINE)
    }
}

fn same(a: &Path, b: &Path) -> Result<bool> {
    Ok(std::fs::read(a)? == std::fs::read(b)?)
}

#[test]
fn curl_reads_and_writes_through_the_front_by_both_versions_of_http() {
    run_lab("gwhttp", |lab| {
        let mut stage = stage(lab)?;
        let (www, got) = (lab.dir().join("www/large"), lab.dir().join("got"));
        let client = lab.underlay("client", "gw");
        for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let said = stage.curl(
                lab,
                &stage.trust,
                &[flag, "-H", "X-Forwarded-For: 6.6.6.6", "-w", "|%{http_version}", "https://app.lab/echo"],
            )?;
            let parts: Vec<_> = said.split('|').collect();
            ensure!(parts[..3] == [client.as_str(), "app.lab", "HTTP/1.1"] && parts[4] == version, "{said}");
            let file = got.display().to_string();
            stage.curl(lab, &stage.trust, &[flag, "-o", &file, "https://x.wild.lab/large"])?;
            ensure!(same(&www, &got)?, "a download changed on its way");
            let upload = www.display().to_string();
            let said =
                stage.curl(lab, &stage.trust, &[flag, "-T", &upload, "-X", "POST", "https://app.lab/put"])?;
            ensure!(said == (64 * MIB).to_string(), "the backend got {said} bytes");
        }
        let moved = stage.curl(
            lab,
            &stage.trust,
            &["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://app.lab/x"],
        )?;
        ensure!(moved == "301 https://app.lab/x", "{moved}");
        ensure!(stage.front.stop()? == Some(0), "{}", stage.front.log());
        Ok(())
    });
}

#[test]
fn passed_through_tls_ends_at_nginx() {
    run_lab("gwthru", |lab| {
        let stage = stage(lab)?;
        let got = lab.dir().join("got");
        let file = got.display().to_string();
        stage.curl(lab, &stage.own, &["-o", &file, "https://thru.lab/large"])?;
        ensure!(same(&lab.dir().join("www/large"), &got)?, "a download changed on its way");
        let wrong = stage.curl(lab, &stage.trust, &["https://thru.lab/small"]);
        ensure!(wrong.is_err(), "the front's own certificate must not be seen");
        Ok(())
    });
}

#[test]
fn no_request_fails_while_configurations_and_certificates_change() {
    run_lab("gwreload", |lab| {
        let mut stage = stage(lab)?;
        let load = |http: &str| {
            let mut command = lab.ns("client").command("h2load");
            command.args([
                "-c8",
                "-D4",
                http,
                &format!("--connect-to={}", stage.address),
                "https://app.lab/small",
            ]);
            Proc::spawn(&mut command, &lab.dir().join("load.log"))
        };
        let mut loads = vec![load("-m4")?];
        let mut reloads = 0;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let fresh = Pair::make(lab.dir(), &format!("fresh{reloads}"), HOSTS)?;
            stage.front.reload(&config(&fresh))?;
            stage.trust = fresh;
            reloads += 1;
        }
        for load in &mut loads {
            load.wait(DEADLINE)?;
            let log = load.log();
            let line = log.lines().find(|line| line.starts_with("requests:")).context(log.clone())?;
            ensure!(line.contains(" 0 failed, 0 errored, 0 timeout"), "{line}");
            ensure!(
                log.lines().any(|line| line.starts_with("status codes:") && line.contains(" 0 4xx, 0 5xx")),
                "{log}"
            );
            eprintln!("{reloads} reloads meanwhile; {line}");
        }
        ensure!(reloads >= 2 && stage.config != config(&stage.trust));
        stage.curl(lab, &stage.trust, &["https://app.lab/small"])?;
        Ok(())
    });
}

#[test]
fn a_backend_that_stops_is_503_within_three_seconds_and_comes_back() {
    run_lab("gwdown", |lab| {
        let mut stage = stage(lab)?;
        let status = |stage: &Stage| {
            stage.curl(
                lab,
                &stage.trust,
                &["-o", "/dev/null", "-w", "%{http_code} %{time_total}", "https://app.lab/small"],
            )
        };
        ensure!(status(&stage)?.starts_with("200"));
        stage._nginx.kill();
        let start = Instant::now();
        let told = |stage: &Stage| stage.front.log().contains("\"condition\":\"down\"");
        wait::until("the check has found it", Duration::from_secs(3), || told(&stage))?;
        let said = status(&stage)?;
        eprintln!("found after {:.1} s; then {said}", start.elapsed().as_secs_f64());
        ensure!(said.starts_with("503"), "{said}");
        let tls = format!(
            "{SERVERS} server {{ listen 8443 ssl; ssl_certificate {}; ssl_certificate_key {}; }}",
            stage.own.chain.display(),
            stage.own.key.display()
        );
        stage._nginx = nginx(lab.ns("gw"), lab.dir(), "backend", &tls)?;
        wait::success("it serves again", DEADLINE, || {
            let said = status(&stage)?;
            ensure!(said.starts_with("200"), "{said}");
            Ok(())
        })
    });
}
