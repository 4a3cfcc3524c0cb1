use super::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn sockets() -> Vec<UdpCarrier> {
    vec![UdpCarrier::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap()]
}

#[test]
fn only_auto_asks_for_a_test_and_a_failed_one_is_told_with_its_key() {
    let bad = || Verdict::Bad("it lies".to_owned());
    let unknown = || Verdict::Unknown("silence".to_owned());
    type Case = (Switch, fn() -> Verdict, bool, usize);
    let cases: [Case; 6] = [
        (Switch::Auto, || Verdict::Good, true, 0),
        (Switch::Auto, bad, false, 1),
        (Switch::Auto, unknown, true, 0),
        (Switch::On, || panic!("tested"), true, 0),
        (Switch::Off, || panic!("tested"), false, 0),
        (Switch::On, bad, true, 0),
    ];
    for (switch, tested, on, notes) in cases {
        let mut all = InUse::default();
        let decided = run(all.decide("udp_send", switch, async || tested()));
        assert_eq!((decided, all.notes.len()), (on, notes), "{switch:?}");
        assert!(all.notes.iter().all(|note| note == "udp_send is off: it lies"));
    }
}

#[test]
fn switched_off_means_off_on_the_sockets() {
    run(async {
        let all = config::Offload::default();
        for (send, receive) in [(Switch::Off, Switch::On), (Switch::On, Switch::Off)] {
            let sockets = sockets();
            let config = config::Offload { udp_send: send, udp_receive: receive, ..all };
            let used = InUse::of_sockets(&config, &sockets).await;
            assert_eq!((used.udp_send, used.udp_receive), (send == Switch::On, receive == Switch::On));
            assert_eq!(
                (sockets[0].segmentation(), sockets[0].aggregation()),
                (used.udp_send, used.udp_receive)
            );
            assert!(used.notes.is_empty(), "as configured");
        }
    });
}

#[test]
fn a_kernel_that_corrupts_batches_is_named() {
    let version = |text| KernelVersion::parse(text).unwrap();
    assert_eq!(defect(version("7.1.5")), None);
    let told = defect(version("7.1.3-ubuntu")).unwrap();
    assert!(told.starts_with("Linux 7.1.3 corrupts"), "{told}");
}

#[test]
fn a_socket_that_gave_up_later_shows_in_the_status() {
    run(async {
        let (sockets, mut used) = (sockets(), InUse { udp_send: true, ..InUse::default() });
        used.look_at(&sockets);
        assert_eq!(used.to_api().udp_send, "on");
        sockets[0].set_segmentation(false);
        for _ in 0..2 {
            used.look_at(&sockets);
            assert_eq!((used.to_api().udp_send.as_str(), used.notes.len()), ("off", 1));
        }
        assert_eq!(used.to_api().tun_read, None);
    });
}
