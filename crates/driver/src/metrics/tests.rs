use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::page::samples;
use super::*;

/// An endpoint whose loop is `answers`; where it is.
async fn start(
    gateway: bool,
    mut answers: impl FnMut(Command) + Send + 'static,
) -> (std::net::SocketAddr, JoinHandle<()>) {
    let (commands, mut requests) = mpsc::channel(api::QUEUE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, Arc::new(Scraper::new(commands, gateway, ANSWER))));
    let answering = tokio::spawn(async move {
        while let Some(command) = requests.recv().await {
            answers(command);
        }
    });
    (address, answering)
}

fn answer(command: Command) {
    match command {
        Command::Node(NodeCommand::Numbers(reply)) => drop(reply.send(Ok(samples::node()))),
        Command::Workload(WorkloadCommand::List(reply)) => drop(reply.send(Ok(samples::workloads()))),
        Command::Gateway(GatewayCommand::Numbers(reply)) => drop(reply.send(Ok(samples::gateway()))),
        _ => panic!("something else is asked for"),
    }
}

/// The whole answer to one request.
async fn ask(address: std::net::SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn one_resource_is_served_and_nothing_else() {
    let (address, _) = start(true, answer).await;
    let said = ask(address, "GET /metrics?x=y").await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    assert!(
        said.to_ascii_lowercase().contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n")
    );
    for line in
        ["sinew_routes 7", "sinew_scrape_success{part=\"gateway\"} 1", "sinew_gateway_connections_total 5"]
    {
        assert!(said.lines().any(|other| other == line), "{line} is not in {said}");
    }
    for line in ["GET /", "GET /metrics/", "GET /v1/status", "POST /metrics", "DELETE /metrics"] {
        let said = ask(address, line).await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{line}: {said}");
    }
}

#[tokio::test]
async fn a_node_that_is_no_gateway_has_no_series_of_one() {
    let (address, _) = start(false, answer).await;
    assert!(!ask(address, "GET /metrics").await.contains("gateway"));
}

#[tokio::test]
async fn however_many_ask_the_loop_is_asked_once() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let counting = move |command| {
        if matches!(command, Command::Node(_)) {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        answer(command);
    };
    let (address, _) = start(false, counting).await;
    let began = Instant::now();
    let all: Vec<_> = (0..40).map(|_| tokio::spawn(ask(address, "GET /metrics"))).collect();
    for said in all {
        assert!(said.await.unwrap().contains("sinew_routes 7"));
    }
    let looks = 1 + began.elapsed().as_millis() / FRESH.as_millis();
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) as u128 <= looks);
}

#[tokio::test]
async fn a_loop_that_has_ended_fails_the_scrape_and_a_busy_desk_only_its_part() {
    let (address, answering) = start(false, answer).await;
    answering.abort();
    let _ = answering.await;
    let said = ask(address, "GET /metrics").await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    let busy = |command| match command {
        Command::Gateway(command) => command.refuse(sinew_control::ApiError::internal("the gateway is busy")),
        other => answer(other),
    };
    let (address, _) = start(true, busy).await;
    let said = ask(address, "GET /metrics").await;
    assert!(said.contains("sinew_scrape_success{part=\"gateway\"} 0\n"), "{said}");
    assert!(said.contains("sinew_routes 7\n") && !said.contains("sinew_gateway_"), "{said}");
}

#[tokio::test]
async fn a_loop_that_does_not_answer_fails_the_scrape_in_time() {
    // Requests are taken and never answered: as long as they wait here, nobody hangs up.
    let (commands, requests) = mpsc::channel(api::QUEUE);
    let scraper = Scraper::new(commands, true, Duration::from_millis(20));
    let answer = timeout(PATIENCE, scraper.answer(&Method::GET, "/metrics")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(requests.len(), 3, "loop and desk were asked");
}
