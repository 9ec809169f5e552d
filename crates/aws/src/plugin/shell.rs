//! A shell or a command: what is typed or piped in goes there, what comes is written as it is.
//!
//! Input that ends is not the session's end: a terminal at the far side is told by its own sign for it, again and again
//! with growing pauses, because whichever program reads next must see it, too.

use super::console::{Console, Happened, Signal};
use super::line::{Line, Up};
use super::{Ended, Failure, Session, status};
use crate::proto::channel::Flag;
use crate::proto::client::{Begun, Event, Kind};
use crate::proto::escape::{self, Escape, Escapes};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Ctrl-D: a terminal's end of input.
const END_OF_INPUT: &[u8] = b"\x04";
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

pub(super) async fn attend(
    session: &Session<'_>,
    begun: Begun,
    mut line: Line,
    console: &mut Console,
) -> Result<Ended, Failure> {
    session.greet(console, &begun).await;
    let up = line.sender();
    let far_terminal = begun.kind == Kind::Shell;
    let mut escapes = Escapes::new(console.is_typed());
    let mut to_send = VecDeque::new();
    let (columns, rows) = console.size();
    to_send.push_back(Up::Size(columns, rows));
    console.make_raw()?;
    let mut input_open = true;
    let mut line_begins = true;
    let mut pause = AGAIN_MIN;
    let mut again: Option<Instant> = None;
    let mut exit = None;
    loop {
        let has_room = console.has_room();
        tokio::select! {
            event = line.next(), if has_room => match event {
                Ok(Event::Output(bytes)) => console.write(bytes),
                Ok(Event::Errors(bytes)) => console.write_errors(bytes),
                Ok(Event::Exit(code)) => exit = Some(status(code)),
                Ok(Event::Closed(text)) => {
                    console.make_cooked();
                    return session.closed(console, &text, exit).await;
                }
                Ok(Event::Broken(because)) => {
                    console.make_cooked();
                    return Err(Failure::Broken(because));
                }
                Ok(Event::Begun(_) | Event::PortRefused) => {}
                Err(failure) => {
                    console.make_cooked();
                    return Err(failure);
                }
            },
            permit = up.reserve(), if !to_send.is_empty() => {
                // A line that takes nothing any more says why as its next event.
                if let (Ok(permit), Some(next)) = (permit, to_send.pop_front()) {
                    permit.send(next);
                }
            }
            happened = console.next(input_open && to_send.is_empty()) => match happened? {
                Happened::Input(Some(typed)) => {
                    let mut rest = &typed[..];
                    while !rest.is_empty() {
                        let mut sent = Vec::with_capacity(rest.len());
                        let (escape, taken) = escapes.take(rest, &mut sent);
                        rest = &rest[taken..];
                        if let Some(last) = sent.last() {
                            line_begins = matches!(last, b'\r' | b'\n');
                            to_send.push_back(Up::Data(Bytes::from(sent)));
                        }
                        match escape {
                            Some(Escape::Leave) => {
                                console.make_cooked();
                                return session.left(console, 0).await;
                            }
                            Some(Escape::Help) if console.has_room() => {
                                console.write(Bytes::from_static(escape::HELP.as_bytes()));
                            }
                            // Nobody would see it.
                            Some(Escape::Help) | None => {}
                        }
                    }
                }
                Happened::Input(None) => {
                    input_open = false;
                    if far_terminal {
                        if !line_begins {
                            to_send.push_back(Up::Data(Bytes::from_static(b"\n")));
                        }
                        again = Some(Instant::now());
                    } else if begun.ravelin {
                        to_send.push_back(Up::Flag(Flag::EndOfInput));
                    }
                }
                Happened::Written => {}
                Happened::Signal(Signal::Resize) => {
                    let (columns, rows) = console.size();
                    to_send.push_back(Up::Size(columns, rows));
                }
                Happened::Signal(Signal::Interrupt) if far_terminal => {
                    to_send.push_back(Up::Data(Bytes::from_static(b"\x03")));
                }
                Happened::Signal(Signal::Quit) if far_terminal => {
                    to_send.push_back(Up::Data(Bytes::from_static(b"\x1c")));
                }
                Happened::Signal(
                    signal @ (Signal::Interrupt | Signal::Quit | Signal::Terminate | Signal::Hangup),
                ) => {
                    console.make_cooked();
                    return session.left(console, signal.ends().unwrap_or(1)).await;
                }
            },
            () = sleep_until(again), if to_send.is_empty() => {
                to_send.push_back(Up::Data(Bytes::from_static(END_OF_INPUT)));
                again = Some(Instant::now() + pause);
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
