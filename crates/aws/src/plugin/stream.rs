//! One stream on standard input and output, as `ssh` wants its `ProxyCommand`: nothing else is on standard output.

use super::console::{Console, Happened};
use super::line::{Line, Up};
use super::{Ended, Failure, Session};
use crate::proto::channel::Flag;
use crate::proto::client::{Begun, Event};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a far side that cannot be told of the end of input may be silent after it.
const SILENCE: Duration = Duration::from_secs(2);

pub(super) async fn attend(
    session: &Session<'_>,
    begun: Begun,
    mut line: Line,
    console: &mut Console,
) -> Result<Ended, Failure> {
    session.greet(console, &begun).await;
    let up = line.sender();
    let mut to_send = None;
    let mut input_open = true;
    // After the end of input: until the far side has everything, and then until it has been silent for a while.
    let mut draining: Option<oneshot::Receiver<()>> = None;
    let mut quiet: Option<Instant> = None;
    loop {
        let has_room = console.has_room();
        tokio::select! {
            event = line.next(), if has_room => match event? {
                Event::Output(bytes) => {
                    console.write(bytes);
                    quiet = quiet.map(|_| Instant::now() + SILENCE);
                }
                Event::Errors(bytes) => console.write_errors(bytes),
                Event::PortRefused => console.say("\nConnection to destination port failed.\n").await,
                Event::Closed(text) => return session.closed(console, &text, None).await,
                Event::Broken(because) => return Err(Failure::Broken(because)),
                Event::Begun(_) | Event::Exit(_) => {}
            },
            permit = up.reserve(), if to_send.is_some() => {
                // A line that takes nothing any more says why as its next event.
                if let (Ok(permit), Some(next)) = (permit, to_send.take()) {
                    permit.send(next);
                }
            }
            happened = console.next(input_open && to_send.is_none()) => match happened? {
                Happened::Written => quiet = quiet.map(|_| Instant::now() + SILENCE),
                Happened::Input(Some(piece)) => to_send = Some(Up::Data(piece)),
                Happened::Input(None) => {
                    input_open = false;
                    to_send = Some(if begun.ravelin {
                        Up::Flag(Flag::EndOfInput)
                    } else {
                        let (told, drained) = oneshot::channel();
                        draining = Some(drained);
                        Up::Drain(told)
                    });
                }
                Happened::Signal(signal) => if let Some(status) = signal.ends() {
                    return session.left(console, status).await;
                },
            },
            _drained = wait(&mut draining) => {
                draining = None;
                quiet = Some(Instant::now() + SILENCE);
            }
            // Nothing is heard while there is no room for it.
            () = sleep_until(quiet), if has_room => return session.end(console, 0).await,
        }
    }
}

async fn wait(draining: &mut Option<oneshot::Receiver<()>>) {
    match draining {
        // A line that went away says why as its next event.
        Some(drained) => drop(drained.await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
