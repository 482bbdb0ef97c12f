//! A pseudo-terminal with infeed on it, and a terminal emulator at its other end that a test reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::binary::{Infeed, Run, Running};
use super::daemon::DEADLINE;
use super::wait::wait_until;

/// What came to the terminal.
struct Seen {
    emulator: vt100::Parser,
    octets: Vec<u8>,
}

/// infeed on a terminal of its own, which is the controlling one; killed when dropped.
pub struct Terminal {
    running: Running,
    /// The side of the person.
    controller: File,
    /// Kept open, so that its modes can be asked for after the end.
    end: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

impl Terminal {
    /// Runs infeed on a terminal of this size.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn start(infeed: Infeed, rows: u16, columns: u16) -> Self {
        let controller =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&controller).expect("granted");
        unlockpt(&controller).expect("unlocked");
        let name = ptsname(&controller, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("its other end");
        tcsetwinsize(&controller, size(rows, columns)).expect("a size");
        // `setsid` makes it the controlling terminal, and becomes infeed
        let running = infeed.by(&["setsid", "--ctty"]).spawn_on(&end);
        let controller = File::from(controller);
        let seen = Seen { emulator: vt100::Parser::new(rows, columns, 0), octets: Vec::new() };
        let seen = Arc::new(Mutex::new(seen));
        let (mut reader, to) = (controller.try_clone().expect("a reader"), seen.clone());
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            // the test's end is the end of it
            while let Ok(n @ 1..) = reader.read(&mut octets) {
                let mut seen = to.lock().unwrap_or_else(PoisonError::into_inner);
                seen.emulator.process(&octets[..n]);
                seen.octets.extend_from_slice(&octets[..n]);
            }
        });
        Self { running, controller, end, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that came, as octets.
    pub fn octets(&self) -> Vec<u8> {
        self.seen().octets.clone()
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.seen().emulator.screen().contents()
    }

    /// Waits until this is on the screen, and gives the line that has it.
    ///
    /// # Panics
    /// At a deadline, with what is there instead.
    pub fn wait_text(&self, what: &str) -> String {
        self.wait(what, |text| text.contains(what));
        self.text().lines().find(|line| line.contains(what)).unwrap_or_default().to_owned()
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Panics
    /// At a deadline, with what is there instead.
    pub fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let began = std::time::Instant::now();
        while !holds(&self.text()) {
            assert!(began.elapsed() < DEADLINE, "no {what:?} on the screen:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the terminal takes none.
    pub fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).expect("keys are taken");
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// When it takes none.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.seen().emulator.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.controller, size(rows, columns)).expect("a size");
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for infeed's end, and gives every octet that came.
    ///
    /// # Panics
    /// At a deadline.
    pub fn wait_end(mut self) -> Vec<u8> {
        wait_until("its end", DEADLINE, || self.running.try_wait().is_some());
        // the kernel has what it wrote last, and gives it in order
        let mark = b"\x00 end";
        File::from(self.end.try_clone().expect("another end")).write_all(mark).expect("written");
        wait_until("its last octets", DEADLINE, || self.octets().ends_with(mark));
        let mut octets = self.octets();
        octets.truncate(octets.len() - mark.len());
        octets
    }

    /// Waits for infeed's end, and for the terminal to be as it was: echo and line mode on, the alternate
    /// screen left, the cursor shown. Gives how it ended.
    ///
    /// # Panics
    /// When it isn't.
    pub fn wait_given_back(self) -> Run {
        let Self { running, controller, end, seen } = self;
        let run = running.wait(DEADLINE);
        let modes = tcgetattr(&end).expect("its modes").local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
        // what it wrote last may be on its way still
        wait_until("terminal that was given back", DEADLINE, || {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let screen = seen.emulator.screen();
            !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
        });
        drop((controller, end));
        run
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
