//! Which offloads are used: what `[offload]` says, what the kernel has, what the tests found.
//!
//! The outcome is told once in the log, with the key that overrides it, and stays visible in `status`.

use std::net::Ipv6Addr;

use sinew_carrier::Datagrams as _;
use sinew_carrier::udp::UdpCarrier;
use sinew_control::api;
use sinew_control::config::{self, Switch};
use sinew_node::Offloads;
use sinew_platform::kernel::KernelVersion;
use sinew_tun::{Offload, Tun as _, TunDevice};
use tracing::{debug, info, warn};

use crate::selftest::{self, Verdict};

/// What is used, and why not all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    tun_read: Option<bool>,
    tun_write: Option<bool>,
    udp_send: bool,
    udp_receive: bool,
    notes: Vec<String>,
}

impl InUse {
    /// Decides for the sockets, and sets them so.
    pub(crate) async fn of_sockets(config: &config::Offload, sockets: &[UdpCarrier]) -> Self {
        let mut all = Self::default();
        all.udp_send = sockets.iter().all(UdpCarrier::segmentation);
        if config.udp_send != Switch::Off && !all.udp_send {
            all.lacks("udp_send", "this kernel cannot send batches (UDP_SEGMENT, Linux 4.18)");
        }
        if all.udp_send {
            let tested = async || match KernelVersion::running().and_then(defect) {
                Some(defect) => Verdict::Bad(defect),
                None => selftest::udp_send().await,
            };
            all.udp_send = all.decide("udp_send", config.udp_send, tested).await;
        }
        all.udp_receive = sockets.iter().all(UdpCarrier::aggregation);
        if config.udp_receive != Switch::Off && !all.udp_receive {
            all.lacks("udp_receive", "this kernel cannot receive batches (UDP_GRO, Linux 5.0)");
        }
        if all.udp_receive {
            let segmentation = all.udp_send;
            let tested = async || selftest::udp_receive(segmentation).await;
            all.udp_receive = all.decide("udp_receive", config.udp_receive, tested).await;
        }
        for socket in sockets {
            if !all.udp_send {
                socket.set_segmentation(false);
            }
            if !all.udp_receive
                && let Err(error) = socket.set_aggregation(false)
            {
                debug!(%error, socket = %socket.local_addr(), "aggregation not switched off");
            }
        }
        all
    }

    /// Decides for the TUN device, which is up with its address `own`; what the node may leave to it.
    pub(crate) async fn and_device(
        &mut self,
        config: &config::Offload,
        device: &mut TunDevice,
        own: Ipv6Addr,
    ) -> Offloads {
        let known = device.offload();
        if known == Offload::None {
            (self.tun_read, self.tun_write) = (Some(false), Some(false));
            if (config.tun_read, config.tun_write) != (Switch::Off, Switch::Off) {
                self.lacks("tun_read and tun_write", "this kernel's TUN devices have no offload");
            }
            return Offloads::PLAIN;
        }
        if known == Offload::Tso {
            self.lacks("UDP super-packets on the TUN device", "they need Linux 6.2");
        }
        // What cannot be tried with UDP is believed.
        let testable = known == Offload::Uso;
        let read = async |device: &TunDevice| match testable {
            true => selftest::tun_read(device, own).await,
            false => Verdict::Good,
        };
        let mut reads = self.decide("tun_read", config.tun_read, async || read(device).await).await;
        if !reads && let Err(error) = device.refuse_super_packets() {
            warn!(%error, "offload: tun_read cannot be switched off");
            reads = true;
        }
        let write = async || match testable {
            true => selftest::tun_write(device, own).await,
            false => Verdict::Good,
        };
        let writes = self.decide("tun_write", config.tun_write, write).await;
        (self.tun_read, self.tun_write) = (Some(reads), Some(writes));
        Offloads { tcp: writes, udp: writes && known == Offload::Uso, ..Offloads::NONE }
    }

    /// Whether to use one of them.
    async fn decide(&mut self, key: &str, switch: Switch, tested: impl AsyncFnOnce() -> Verdict) -> bool {
        match switch {
            Switch::On => return true,
            Switch::Off => return false,
            Switch::Auto => {}
        }
        match tested().await {
            Verdict::Good => true,
            Verdict::Unknown(why) => {
                debug!(why, "offload: {key} could not be tested and stays on");
                true
            }
            Verdict::Bad(why) => {
                let note = format!("{key} is off: {why}");
                warn!("offload: {note}; `{key} = \"on\"` under [offload] overrides this");
                self.notes.push(note);
                false
            }
        }
    }

    fn lacks(&mut self, what: &str, why: &str) {
        let note = format!("{what} is off: {why}");
        info!("offload: {note}");
        self.notes.push(note);
    }

    /// Notes a socket that has given up segmentation since.
    pub(crate) fn look_at(&mut self, sockets: &[UdpCarrier]) {
        if !self.udp_send {
            return;
        }
        if let Some(socket) = sockets.iter().find(|socket| !socket.segmentation()) {
            self.udp_send = false;
            let at = socket.local_addr();
            self.notes.push(format!("udp_send is off: the kernel refused a batch on {at} (see the log)"));
        }
    }

    /// As `status` shows it.
    pub(crate) fn to_api(&self) -> api::Offload {
        let word = |on: bool| if on { "on" } else { "off" }.to_owned();
        api::Offload {
            tun_read: self.tun_read.map(word),
            tun_write: self.tun_write.map(word),
            udp_send: word(self.udp_send),
            udp_receive: word(self.udp_receive),
            notes: self.notes.clone(),
        }
    }

    /// One line for the log.
    pub(crate) fn log(&self) {
        let shown = self.to_api();
        let word = |word: Option<String>| word.unwrap_or_else(|| "none".to_owned());
        let (read, write) = (word(shown.tun_read), word(shown.tun_write));
        info!(
            tun_read = read,
            tun_write = write,
            udp_send = shown.udp_send,
            udp_receive = shown.udp_receive,
            "offload"
        );
    }
}

/// What is wrong with this kernel's segmentation that no test at start finds.
fn defect(kernel: KernelVersion) -> Option<String> {
    kernel
        .corrupts_udp_segments()
        .then(|| format!("Linux {kernel} corrupts batches of equally long datagrams (7.0 to 7.1.4 do)"))
}

#[cfg(test)]
mod tests;
