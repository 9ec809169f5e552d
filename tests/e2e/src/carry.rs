//! Bytes that have to arrive as they were, ends for them to go to, and a network that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Numbers that are the same in every run (Marsaglia, "Xorshift RNGs", 2003).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// `seed` must not be 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number of `from..to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from)
    }
}

/// Bytes that do not compress and differ everywhere.
#[must_use]
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| dice.roll().to_le_bytes()).flatten().take(bytes).collect()
}

/// A stream that can be written and read at the same time, and ended in one direction.
pub trait Stream: Read + Write + Send + Sized + 'static {
    /// A second handle.
    ///
    /// # Panics
    /// When the system gives none.
    #[must_use]
    fn twin(&self) -> Self;

    /// Says that nothing more will be written. Whoever is on the other side may be gone.
    fn end(&self);

    /// From now on a stream that stands still is an error, not a hang.
    ///
    /// # Panics
    /// When the system does not take it.
    fn be_impatient(&self);
}

/// How long a stream may stand still.
const STILL_MAX: Option<Duration> = Some(Duration::from_secs(120));

impl Stream for TcpStream {
    fn be_impatient(&self) {
        self.set_read_timeout(STILL_MAX).and_then(|()| self.set_write_timeout(STILL_MAX)).expect("a limit");
    }

    fn twin(&self) -> Self {
        self.try_clone().expect("a second handle")
    }

    fn end(&self) {
        let _gone = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn be_impatient(&self) {
        self.set_read_timeout(STILL_MAX).and_then(|()| self.set_write_timeout(STILL_MAX)).expect("a limit");
    }

    fn twin(&self) -> Self {
        self.try_clone().expect("a second handle")
    }

    fn end(&self) {
        let _gone = self.shutdown(Shutdown::Write);
    }
}

/// Takes everything, says it back from the first byte on, and ends when the other side has.
fn say_back(stream: impl Stream) {
    std::thread::spawn(move || {
        let (mut reader, mut writer) = (stream.twin(), stream);
        // Whoever leaves early has its reasons.
        let _gone = std::io::copy(&mut reader, &mut writer);
        writer.end();
    });
}

/// A port on loopback that says everything back.
///
/// # Panics
/// When there is no free port.
#[must_use]
pub fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(say_back));
    port
}

/// The same behind a Unix socket.
///
/// # Panics
/// When the socket cannot be made.
pub fn echo_at(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(say_back));
}

/// Sends all of it through a connection and expects it back, and nothing else.
///
/// # Panics
/// When something else comes back, or not all of it.
pub fn there_and_back(mut stream: impl Stream, data: &[u8]) {
    stream.be_impatient();
    let mut back = vec![0; data.len()];
    let mut writer = stream.twin();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(data).expect("it takes");
            writer.end();
        });
        stream.read_exact(&mut back).expect("all comes back");
    });
    assert!(back == data, "what came back is something else");
    assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0, "more than that came back");
}

/// A network between a client and a server, which breaks connections while they are in use.
pub struct Network {
    /// Where clients connect to.
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl Network {
    /// In front of a port on loopback. Each connection breaks, in both directions and wherever it is, after a number of
    /// bytes that the dice choose from `bytes`; after `cuts_max` of them the network is sound.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn in_front_of(port: u16, seed: u64, bytes: std::ops::Range<u64>, cuts_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cuts = Arc::new(AtomicUsize::new(0));
        let network = Self { address, cuts: Arc::clone(&cuts) };
        let mut dice = Dice::new(seed);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let left = Left {
                    bytes: Mutex::new(dice.between(bytes.start, bytes.end)),
                    cuts: Arc::clone(&cuts),
                    cuts_max,
                    ends: [near.twin(), far.twin()],
                };
                let left = Arc::new(left);
                for (from, to) in [(near.twin(), far.twin()), (far, near)] {
                    let left = Arc::clone(&left);
                    std::thread::spawn(move || left.carry(from, to));
                }
            }
        });
        network
    }

    /// How many connections were broken so far.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// What a [`Valve`] lets pass.
#[derive(Clone, Copy, PartialEq)]
enum Passage {
    Everything,
    /// Of what clients say next, the first half.
    HalfOfRequests,
    /// What clients say, and nothing of the answers.
    NoAnswers,
}

struct Valved {
    passage: Passage,
    /// Both ends of the connections that are being held.
    held: Vec<[TcpStream; 2]>,
}

/// A network between a client and a server that can be stopped in the middle of a request or before its answer.
pub struct Valve {
    /// Where clients connect to.
    pub address: SocketAddr,
    state: Arc<Mutex<Valved>>,
}

impl Valve {
    /// In front of a port on loopback, open.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn in_front_of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(Valved { passage: Passage::Everything, held: Vec::new() }));
        let valve = Self { address, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to, asks) in [(near.twin(), far.twin(), true), (far, near, false)] {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || pass(&state, from, to, asks));
                }
            }
        });
        valve
    }

    /// Lets half of the next request pass, and holds it there.
    pub fn hold_a_request(&self) {
        self.locked().passage = Passage::HalfOfRequests;
    }

    /// Lets the next request pass, and holds back its answer.
    pub fn hold_an_answer(&self) {
        self.locked().passage = Passage::NoAnswers;
    }

    /// Whether something is held.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.locked().held.is_empty()
    }

    /// Breaks what is held; what comes later passes.
    pub fn open(&self) {
        let mut state = self.locked();
        state.passage = Passage::Everything;
        for end in state.held.drain(..).flatten() {
            let _gone = end.shutdown(Shutdown::Both);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Valved> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one direction of a connection, `asks` for the client's, as far as the valve lets it.
fn pass(state: &Mutex<Valved>, mut from: TcpStream, mut to: TcpStream, asks: bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut valved = state.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = match (valved.passage, asks) {
            (Passage::HalfOfRequests, true) => count / 2,
            (Passage::NoAnswers, false) => 0,
            (Passage::Everything | Passage::HalfOfRequests | Passage::NoAnswers, _) => count,
        };
        if passes < count {
            valved.held.push([from.twin(), to.twin()]);
        }
        drop(valved);
        if to.write_all(&buffer[..passes]).is_err() || passes < count {
            return;
        }
    }
    to.end();
}

/// What a connection may still carry, in both directions together.
struct Left {
    bytes: Mutex<u64>,
    cuts: Arc<AtomicUsize>,
    cuts_max: usize,
    ends: [TcpStream; 2],
}

impl Left {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let passes = self.take(count);
            if to.write_all(&buffer[..passes]).is_err() {
                break;
            }
            if passes < count {
                for end in &self.ends {
                    let _gone = end.shutdown(Shutdown::Both);
                }
                return;
            }
        }
        to.end();
    }

    /// How many of so many bytes still pass.
    fn take(&self, count: usize) -> usize {
        let mut left = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = u64::try_from(count).unwrap_or(u64::MAX);
        if *left >= wanted {
            *left -= wanted;
            return count;
        }
        // The first of both directions that comes here breaks the connection.
        let first = *left > 0;
        let sound = first && self.cuts.fetch_add(1, Ordering::SeqCst) >= self.cuts_max;
        if sound {
            self.cuts.fetch_sub(1, Ordering::SeqCst);
            *left = u64::MAX;
            return count;
        }
        usize::try_from(std::mem::take(&mut *left)).unwrap_or(count)
    }
}
