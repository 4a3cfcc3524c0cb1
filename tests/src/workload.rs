//! The programs that people run over a mesh: a web server, curl, iperf3, ping, ssh.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::ns::Namespace;
use crate::process::{self, Proc, read_lossy};
use crate::wait;

/// Stands at every 16th byte of a payload, so that any part of it can be found in a capture.
pub const PAYLOAD_MARK: &[u8; 8] = b"SINEWPAY";

const START: Duration = Duration::from_secs(10);

/// Writes a payload of `bytes` bytes in which no two blocks are equal; its SHA-256.
pub fn payload_file(path: &Path, bytes: u64) -> Result<String> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut hash = Sha256::new();
    let mut block = [0; 4096];
    let mut written = 0;
    while written < bytes {
        for (number, part) in block.chunks_exact_mut(16).enumerate() {
            part[..8].copy_from_slice(PAYLOAD_MARK);
            part[8..].copy_from_slice(&(written + 16 * number as u64).to_le_bytes());
        }
        let length = usize::try_from((bytes - written).min(4096)).context("at most 4096")?;
        hash.update(&block[..length]);
        file.write_all(&block[..length])?;
        written += length as u64;
    }
    file.flush()?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A real nginx that serves one folder on every address of a namespace.
#[derive(Debug)]
pub struct Nginx {
    proc: Proc,
}

impl Nginx {
    /// Serves `dir/www` (made if missing) on `port`.
    pub fn start(ns: &Namespace, dir: &Path, port: u16) -> Result<Self> {
        std::fs::create_dir_all(dir.join("www"))?;
        let conf = dir.join("nginx.conf");
        let d = dir.display();
        std::fs::write(
            &conf,
            format!(
                "daemon off;\nmaster_process off;\npid {d}/nginx.pid;\nerror_log stderr notice;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{\n  access_log off;\n  sendfile on;\n  client_body_temp_path {d}/body;\n\
                 proxy_temp_path {d}/proxy;\n  fastcgi_temp_path {d}/fastcgi;\n  uwsgi_temp_path {d}/uwsgi;\n\
                 scgi_temp_path {d}/scgi;\n\
                 server {{ listen {port}; listen [::]:{port}; root {d}/www; }}\n}}\n"
            ),
        )?;
        let mut command = ns.command("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&conf);
        let mut proc = Proc::spawn(&mut command, &dir.join("nginx.log"))?;
        wait::until("nginx listens", START, || ns.listens(port) || !proc.running())?;
        if !proc.running() {
            bail!("nginx ended: {}", proc.log());
        }
        Ok(Self { proc })
    }

    /// Lets it outlive this process.
    pub fn keep(&mut self) {
        self.proc.keep();
    }
}

/// `http://` URL of a file on an IPv4 or IPv6 address.
pub fn url(address: &str, port: u16, file: &str) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{port}/{file}")
}

#[derive(Debug, Default)]
struct Progress {
    /// Arrival time and total bytes after each read.
    arrivals: Vec<(Instant, u64)>,
}

/// A download by curl in progress; the bytes are hashed as they come and then forgotten.
#[derive(Debug)]
pub struct Transfer {
    proc: Proc,
    progress: Arc<Mutex<Progress>>,
    reader: Option<JoinHandle<String>>,
    log: PathBuf,
}

impl Transfer {
    /// Starts to fetch `url`; curl's complaints go to `log`.
    pub fn start(ns: &Namespace, url: &str, log: &Path) -> Result<Self> {
        Self::curl(ns, &["--fail", url], log)
    }

    /// As [`Transfer::start`], at no more than `rate` (as curl takes it: `300k`).
    pub fn start_limited(ns: &Namespace, url: &str, log: &Path, rate: &str) -> Result<Self> {
        Self::curl(ns, &["--fail", "--limit-rate", rate, url], log)
    }

    fn curl(ns: &Namespace, args: &[&str], log: &Path) -> Result<Self> {
        let mut command = ns.command("curl");
        command.args(["-gsS", "--noproxy", "*"]).args(args);
        let (proc, stdout) = Proc::piped(&mut command, log)?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let shared = Arc::clone(&progress);
        let reader = std::thread::spawn(move || read_and_hash(stdout, &shared));
        Ok(Self { proc, progress, reader: Some(reader), log: log.to_owned() })
    }

    /// Bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.with(|progress| progress.arrivals.last().map_or(0, |&(_, total)| total))
    }

    /// Waits until `bytes` have come.
    pub fn wait_bytes(&mut self, bytes: u64, deadline: Duration) -> Result<()> {
        let mut ended = false;
        wait::until(&format!("{bytes} bytes by curl"), deadline, || {
            ended = !self.proc.running();
            self.bytes() >= bytes || ended
        })?;
        if self.bytes() < bytes && ended {
            bail!("curl ended after {} bytes: {}", self.bytes(), read_lossy(&self.log));
        }
        Ok(())
    }

    /// Waits until `more` bytes have come after `since`; the time from `since` to the end of the
    /// longest silence on the way there.
    pub fn repaired_after(&mut self, since: Instant, more: u64, deadline: Duration) -> Result<Duration> {
        let before = self.with(|progress| progress.total_at(since));
        self.wait_bytes(before + more, deadline)?;
        Ok(self.with(|progress| progress.end_of_longest_silence(since)))
    }

    /// Waits for the end; bytes and SHA-256 of what came.
    pub fn finish(&mut self, deadline: Duration) -> Result<(u64, String)> {
        let code = self.proc.wait(deadline).with_context(|| format!("after {} bytes", self.bytes()))?;
        if code != Some(0) {
            bail!("curl: exit {code:?} after {} bytes: {}", self.bytes(), read_lossy(&self.log));
        }
        let reader = self.reader.take().context("finished twice")?;
        let hash = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        Ok((self.bytes(), hash))
    }

    fn with<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Progress {
    fn total_at(&self, time: Instant) -> u64 {
        self.arrivals.iter().rev().find(|(at, _)| *at <= time).map_or(0, |&(_, total)| total)
    }

    fn end_of_longest_silence(&self, since: Instant) -> Duration {
        let times = self.arrivals.iter().map(|&(at, _)| at).filter(|&at| at > since);
        let mut last = since;
        let mut longest = (Duration::ZERO, Duration::ZERO);
        for at in times {
            longest = longest.max((at - last, at - since));
            last = at;
        }
        longest.1
    }
}

fn read_and_hash(mut stdout: impl Read, shared: &Mutex<Progress>) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    while let Ok(read @ 1..) = stdout.read(&mut buffer) {
        hash.update(&buffer[..read]);
        total += read as u64;
        let mut progress = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        progress.arrivals.push((Instant::now(), total));
    }
    hex(&hash.finalize())
}

/// Fetches a whole file with curl; bytes and SHA-256.
pub fn fetch(ns: &Namespace, url: &str, log: &Path, deadline: Duration) -> Result<(u64, String)> {
    Transfer::start(ns, url, log)?.finish(deadline)
}

/// Fetches a small page as text.
pub fn fetch_text(ns: &Namespace, url: &str) -> Result<String> {
    ns.run(&["curl", "-gsS", "--fail", "--max-time", "15", "--noproxy", "*", url])
}

/// Summary of the system's `ping`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PingReport {
    /// Probes sent.
    pub sent: u32,
    /// Answers.
    pub received: u32,
    /// Mean round trip in milliseconds, when anything came back.
    pub avg_ms: Option<f64>,
}

/// The system's `ping`: `count` probes, `interval_ms` apart.
pub fn ping(ns: &Namespace, address: &str, count: u32, interval_ms: u32) -> Result<PingReport> {
    let interval = format!("{:.3}", f64::from(interval_ms) / 1000.0);
    let mut command = ns.command("ping");
    command.args(["-n", "-q", "-W", "2", "-c", &count.to_string(), "-i", &interval, address]);
    let deadline = Duration::from_millis(u64::from(count * interval_ms)) + Duration::from_secs(20);
    let output = process::run(&mut command, deadline)?;
    parse_ping(&output.stdout).with_context(|| format!("ping {address}: {}", output.text()))
}

fn parse_ping(text: &str) -> Option<PingReport> {
    let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
    let mut numbers = summary.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
    let (sent, received) = (numbers.next()?, numbers.next()?);
    let times = text.lines().find(|line| line.starts_with("rtt "));
    let avg_ms = times.and_then(|line| line.split(" = ").nth(1)?.split('/').nth(1)?.parse().ok());
    Some(PingReport { sent, received, avg_ms })
}

/// A running `iperf3 -s`.
#[derive(Debug)]
pub struct Iperf {
    _server: Proc,
}

const IPERF_PORT: u16 = 5201;

impl Iperf {
    /// Starts the server.
    pub fn start(ns: &Namespace, dir: &Path) -> Result<Self> {
        let mut command = ns.command("iperf3");
        command.args(["-s", "-p", &IPERF_PORT.to_string()]);
        let mut server = Proc::spawn(&mut command, &dir.join("iperf3.log"))?;
        wait::until("iperf3 listens", START, || ns.listens(IPERF_PORT) || !server.running())?;
        if !server.running() {
            bail!("iperf3 ended: {}", server.log());
        }
        Ok(Self { _server: server })
    }

    /// TCP throughput from `ns` to the server at `address`, in bits per second as received.
    /// The first second (slow start, path search) is left out.
    pub fn measure(&self, ns: &Namespace, address: &str, seconds: u32) -> Result<f64> {
        let mut command = ns.command("iperf3");
        let (port, seconds_text) = (IPERF_PORT.to_string(), seconds.to_string());
        command.args(["-J", "-O", "1", "-c", address, "-p", &port, "-t", &seconds_text]);
        command.args(["--connect-timeout", "5000"]);
        let output = process::run(&mut command, Duration::from_secs(u64::from(seconds) + 30))?;
        let json: serde_json::Value =
            serde_json::from_str(&output.stdout).context("iperf3 printed no JSON")?;
        let rate = json.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
        rate.with_context(|| format!("iperf3 to {address}: {}", json["error"]))
    }
}

/// An ssh server with keys of its own, in one namespace, and a client configuration for it.
#[derive(Debug)]
pub struct Sshd {
    _server: Proc,
    dir: PathBuf,
}

const SSH_PORT: u16 = 2222;

impl Sshd {
    /// Makes keys in `dir` and starts the server.
    pub fn start(ns: &Namespace, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        for name in ["host", "user"] {
            let mut command = process::command("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name));
            process::run_ok(&mut command, START)?;
        }
        std::fs::copy(dir.join("user.pub"), dir.join("authorized"))?;
        let d = dir.display();
        let conf = format!(
            "Port {SSH_PORT}\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile {d}/sshd.pid\n\
             Subsystem sftp internal-sftp\n"
        );
        std::fs::write(dir.join("sshd.conf"), conf)?;
        // sshd refuses to start without its privilege-separation folder, which the package's
        // service unit would make.
        std::fs::create_dir_all("/run/sshd")?;
        let program = crate::requirements::find_program("sshd").context("sshd")?;
        let mut command = ns.command(&program.to_string_lossy());
        command.args(["-D", "-e", "-f"]).arg(dir.join("sshd.conf"));
        let mut server = Proc::spawn(&mut command, &dir.join("sshd.log"))?;
        wait::until("sshd listens", START, || ns.listens(SSH_PORT) || !server.running())?;
        if !server.running() {
            bail!("sshd ended: {}", server.log());
        }
        Ok(Self { _server: server, dir: dir.to_owned() })
    }

    /// The client's command line up to the host, for `ssh` itself or for `rsync -e`.
    pub fn client(&self) -> String {
        let d = self.dir.display();
        format!(
            "ssh -p {SSH_PORT} -i {d}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=10"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_ping_is_read() {
        let text = "2 packets transmitted, 1 received, 50% packet loss, time 1ms\n\
                    rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms\n";
        assert_eq!(parse_ping(text), Some(PingReport { sent: 2, received: 1, avg_ms: Some(0.2) }));
        let lost = "3 packets transmitted, 0 received, 100% packet loss, time 5ms\n";
        assert_eq!(parse_ping(lost), Some(PingReport { sent: 3, received: 0, avg_ms: None }));
        assert_eq!(parse_ping("unknown host"), None);
    }

    #[test]
    fn the_longest_silence_is_measured_from_the_fault() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let progress =
            Progress { arrivals: vec![(at(10), 1), (at(90), 2), (at(110), 3), (at(700), 4), (at(710), 5)] };
        assert_eq!(progress.total_at(at(100)), 2);
        assert_eq!(progress.end_of_longest_silence(at(100)), Duration::from_millis(600));
    }

    #[test]
    fn a_payload_is_marked_all_through() {
        let path = std::env::temp_dir().join(format!("sinew-payload-{}", std::process::id()));
        let hash = payload_file(&path, 5000).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let _ = std::fs::remove_file(&path);
        assert_eq!((bytes.len(), hash.len()), (5000, 64));
        assert!(bytes.chunks_exact(16).all(|part| part.starts_with(PAYLOAD_MARK)));
        assert_eq!(hash, hex(&Sha256::digest(&bytes)));
    }
}
