//! Pseudo-terminals: opening one with the client's size and modes (RFC 4254, sections 6.2, 6.7 and 8).
//!
//! Must not know processes or channels.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Mutex, PoisonError};

use pty_process::{Pts, Size};
use russh::Pty as Mode;
use rustix::process::Pid;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize, tcgetattr,
    tcgetpgrp, tcsetattr, tcsetwinsize, ttyname,
};

use crate::process;

/// The size a terminal has when the client does not say.
const COLUMNS_WHEN_UNKNOWN: u16 = 80;
const ROWS_WHEN_UNKNOWN: u16 = 24;
/// How this system writes "no such character", which is 255 on the wire.
const NO_CHARACTER: u8 = if cfg!(target_os = "linux") { 0 } else { u8::MAX };

/// A terminal whose program has not been started.
pub(crate) struct Fresh {
    pub(crate) pty: pty_process::Pty,
    pub(crate) pts: Pts,
    pub(crate) kind: String,
    pub(crate) name: OsString,
    pub(crate) control: Control,
}

/// Opens a terminal of `kind` (the value of `TERM`).
pub(crate) fn open(kind: &str, size: Winsize, modes: &[(Mode, u32)]) -> io::Result<Fresh> {
    let (pty, pts) = process::while_nobody_forks(pty_process::open).map_err(into_io)?;
    pty.resize(Size::new_with_pixel(size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel)).map_err(into_io)?;
    let mut attributes = tcgetattr(&pts)?;
    for (mode, value) in modes {
        set_mode(&mut attributes, *mode, *value);
    }
    tcsetattr(&pts, OptionalActions::Now, &attributes)?;
    let name = OsString::from_vec(ttyname(&pts, Vec::new())?.into_bytes());
    let control = Control { master: Mutex::new(Some(pty.as_fd().try_clone_to_owned()?)) };
    Ok(Fresh { pty, pts, kind: kind.to_owned(), name, control })
}

/// The size as the client says it, in its own order; nothing means a screen of the usual size.
pub(crate) fn size(columns: u32, rows: u32, width_pixels: u32, height_pixels: u32) -> Winsize {
    let short = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let or = |value: u16, when_unknown: u16| if value == 0 { when_unknown } else { value };
    Winsize {
        ws_row: or(short(rows), ROWS_WHEN_UNKNOWN),
        ws_col: or(short(columns), COLUMNS_WHEN_UNKNOWN),
        ws_xpixel: short(width_pixels),
        ws_ypixel: short(height_pixels),
    }
}

/// The handle by which a running terminal is resized and asked who is in its foreground.
#[derive(Debug, Default)]
pub(crate) struct Control {
    master: Mutex<Option<OwnedFd>>,
}

impl Control {
    /// Gives the terminal a new size; the kernel tells the foreground programs.
    pub(crate) fn resize(&self, size: Winsize) -> io::Result<()> {
        match &*self.master.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(master) => Ok(tcsetwinsize(master, size)?),
            None => Ok(()),
        }
    }

    /// The process group in the foreground, if there is one.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        let master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        tcgetpgrp(master.as_ref()?).ok()
    }

    /// Lets go of the terminal. When the last handle is gone the kernel hangs up on the programs.
    pub(crate) fn release(&self) {
        self.master.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Applies one encoded mode; what this system does not have is ignored, as RFC 4254, section 8 asks.
fn set_mode(to: &mut Termios, mode: Mode, value: u32) {
    if let Some(index) = special_code(mode) {
        to.special_codes[index] = u8::try_from(value).ok().filter(|code| *code != u8::MAX).unwrap_or(NO_CHARACTER);
        return;
    }
    let on = value != 0;
    match mode {
        Mode::IGNPAR => to.input_modes.set(InputModes::IGNPAR, on),
        Mode::PARMRK => to.input_modes.set(InputModes::PARMRK, on),
        Mode::INPCK => to.input_modes.set(InputModes::INPCK, on),
        Mode::ISTRIP => to.input_modes.set(InputModes::ISTRIP, on),
        Mode::INLCR => to.input_modes.set(InputModes::INLCR, on),
        Mode::IGNCR => to.input_modes.set(InputModes::IGNCR, on),
        Mode::ICRNL => to.input_modes.set(InputModes::ICRNL, on),
        Mode::IXON => to.input_modes.set(InputModes::IXON, on),
        Mode::IXANY => to.input_modes.set(InputModes::IXANY, on),
        Mode::IXOFF => to.input_modes.set(InputModes::IXOFF, on),
        Mode::IMAXBEL => to.input_modes.set(InputModes::IMAXBEL, on),
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        Mode::IUTF8 => to.input_modes.set(InputModes::IUTF8, on),
        Mode::ISIG => to.local_modes.set(LocalModes::ISIG, on),
        Mode::ICANON => to.local_modes.set(LocalModes::ICANON, on),
        Mode::ECHO => to.local_modes.set(LocalModes::ECHO, on),
        Mode::ECHOE => to.local_modes.set(LocalModes::ECHOE, on),
        Mode::ECHOK => to.local_modes.set(LocalModes::ECHOK, on),
        Mode::ECHONL => to.local_modes.set(LocalModes::ECHONL, on),
        Mode::NOFLSH => to.local_modes.set(LocalModes::NOFLSH, on),
        Mode::TOSTOP => to.local_modes.set(LocalModes::TOSTOP, on),
        Mode::IEXTEN => to.local_modes.set(LocalModes::IEXTEN, on),
        Mode::ECHOCTL => to.local_modes.set(LocalModes::ECHOCTL, on),
        Mode::ECHOKE => to.local_modes.set(LocalModes::ECHOKE, on),
        Mode::PENDIN => to.local_modes.set(LocalModes::PENDIN, on),
        Mode::OPOST => to.output_modes.set(OutputModes::OPOST, on),
        Mode::ONLCR => to.output_modes.set(OutputModes::ONLCR, on),
        Mode::OCRNL => to.output_modes.set(OutputModes::OCRNL, on),
        Mode::ONOCR => to.output_modes.set(OutputModes::ONOCR, on),
        Mode::ONLRET => to.output_modes.set(OutputModes::ONLRET, on),
        Mode::CS7 if on => set_character_size(to, ControlModes::CS7),
        Mode::CS8 if on => set_character_size(to, ControlModes::CS8),
        Mode::PARENB => to.control_modes.set(ControlModes::PARENB, on),
        Mode::PARODD => to.control_modes.set(ControlModes::PARODD, on),
        // Speeds mean nothing on a pseudo-terminal, and the rest is not to be had on every system.
        _ => {}
    }
}

fn set_character_size(to: &mut Termios, size: ControlModes) {
    to.control_modes.remove(ControlModes::CSIZE);
    to.control_modes.insert(size);
}

fn special_code(mode: Mode) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Mode::VINTR => SpecialCodeIndex::VINTR,
        Mode::VQUIT => SpecialCodeIndex::VQUIT,
        Mode::VERASE => SpecialCodeIndex::VERASE,
        Mode::VKILL => SpecialCodeIndex::VKILL,
        Mode::VEOF => SpecialCodeIndex::VEOF,
        Mode::VEOL => SpecialCodeIndex::VEOL,
        Mode::VEOL2 => SpecialCodeIndex::VEOL2,
        Mode::VSTART => SpecialCodeIndex::VSTART,
        Mode::VSTOP => SpecialCodeIndex::VSTOP,
        Mode::VSUSP => SpecialCodeIndex::VSUSP,
        Mode::VREPRINT => SpecialCodeIndex::VREPRINT,
        Mode::VWERASE => SpecialCodeIndex::VWERASE,
        Mode::VLNEXT => SpecialCodeIndex::VLNEXT,
        Mode::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

pub(crate) fn into_io(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
        other => io::Error::other(other),
    }
}
