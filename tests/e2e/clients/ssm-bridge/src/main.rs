//! The crate `aws-ssm-bridge` as a program, so that tests can run it: a session's lines of input and output, or a port.
//!
//! Start reading at [`main`]. It knows nothing of Ravelin: endpoint and keys come from the environment, as its users
//! have them.

use aws_ssm_bridge::documents::{InteractiveCommand, NonInteractiveCommand, PortForwardingToRemoteHost, SshSession};
use aws_ssm_bridge::{
    EndpointPolicy, PortForwardConfig, PortForwarder, ReconnectConfig, ReconnectEvent, ReconnectingSession, Session,
    SessionBuilder, ShutdownSignal,
};
use futures_util::StreamExt;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, stdin, stdout};

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str =
    "usage: ssm-bridge shell|interactive|command|ssh|forward|forward-host|shell-over-cuts TARGET [ARGS]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    // Its own list of hosts holds only AWS's.
    let to = |target: &str| SessionBuilder::new(target).endpoint_policy(EndpointPolicy::AllowAny);
    match words.as_slice() {
        ["shell", target] => converse(to(target).reason("by hand").start().await?).await,
        ["interactive", target, line] => {
            converse(to(target).document(InteractiveCommand::new(*line)).start().await?).await
        }
        ["command", target, line] => {
            converse(to(target).document(NonInteractiveCommand::new(*line)).start().await?).await
        }
        ["ssh", target, port] => converse(to(target).document(SshSession::on_port(port.parse()?)).start().await?).await,
        ["forward", target, port] => forward(to(target).port_forward(port.parse()?)).await,
        ["forward-host", target, host, port] => {
            forward(to(target).document(PortForwardingToRemoteHost::new(*host, port.parse()?))).await
        }
        ["shell-over-cuts", target] => over_cuts(to(target)).await,
        _ => Err(USAGE.into()),
    }
}

/// Standard input goes there, output comes here, until the session is over or the input is; what it says of itself
/// goes to standard error.
async fn converse(session: Session) -> Outcome {
    let session = Arc::new(session);
    let mut output = session.output();
    session.wait_ready().await?;
    eprintln!("ready: {} {}", session.id(), session.agent_version().unwrap_or("?"));
    session.send_terminal_size(101, 33).await?;
    let (ours, mut input) = (Arc::clone(&session), stdin());
    let typing = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = input.read(&mut buffer).await {
            if ours.send(buffer[..count].to_vec()).await.is_err() {
                break;
            }
        }
    });
    let mut out = stdout();
    while let Some(chunk) = output.next().await {
        out.write_all(&chunk).await?;
        out.flush().await?;
    }
    typing.abort();
    let lagged = output.lagged();
    let reason = session.close_reason().map_or_else(String::new, |reason| reason.to_string());
    eprintln!("over: {reason}; exit code {:?}; lagged {lagged}", session.exit_code());
    // A blocked read of the standard input must not hold this program.
    std::process::exit(session.exit_code().unwrap_or(0));
}

/// A local port leads there until the standard input ends.
async fn forward(session: SessionBuilder) -> Outcome {
    let session = Arc::new(session.start().await?);
    let forwarder = PortForwarder::bind(PortForwardConfig::default()).await?;
    println!("port {}", forwarder.local_addr().port());
    let shutdown = ShutdownSignal::new();
    let (stop, mut input) = (shutdown.clone(), stdin());
    tokio::spawn(async move {
        let _end = input.read_to_end(&mut Vec::new()).await;
        stop.shutdown();
    });
    forwarder.forward(Arc::clone(&session), shutdown).await?;
    let reason = session.close_reason().map(|reason| reason.to_string());
    session.terminate().await?;
    println!("over: {}", reason.unwrap_or_else(|| "as asked".to_owned()));
    std::process::exit(0);
}

/// A shell that comes back over breaks of the network, and says on standard error how it did.
async fn over_cuts(session: SessionBuilder) -> Outcome {
    let session = session.into_config();
    let config = ReconnectConfig {
        initial_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(200),
        max_attempts: 0,
        session: session.clone(),
    };
    let session = ReconnectingSession::connect(session.target, config).await?;
    let (mut output, mut events) = (session.output(), session.events());
    let (ours, mut input) = (session.clone(), stdin());
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = input.read(&mut buffer).await {
            if ours.send(buffer[..count].to_vec()).await.is_err() {
                break;
            }
        }
    });
    let mut out = stdout();
    loop {
        tokio::select! {
            chunk = output.next() => match chunk {
                Some(chunk) => {
                    out.write_all(&chunk).await?;
                    out.flush().await?;
                }
                None => break,
            },
            Ok(event) = events.recv() => match event {
                ReconnectEvent::Resumed { session_id, .. } => eprintln!("resumed: {session_id}"),
                ReconnectEvent::GaveUp { reason, .. } => {
                    eprintln!("over: {reason}");
                    break;
                }
                other => eprintln!("{other:?}"),
            },
        }
    }
    std::process::exit(0);
}
