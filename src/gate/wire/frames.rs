//! Reads along in what a peer sends, as far as the heads of its frames.

/// What each connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length (3 bytes), type, flags, stream (4 bytes).
const HEAD: usize = 9;

/// What a peer may spend at once on frames that ask for nothing.
const ALLOWANCE: i32 = 4_096;
/// What a call earns, and its reset costs: a call may be reset, and so may each of them. Behind a proxy it is somebody else who
/// gives up on calls, any number of them, and to cut the proxy for it would hit all its other clients. A call that is reset is
/// less work than one that is answered, and has its turn like any other.
const CALL: i32 = 3;
/// PING and SETTINGS are answered, which is as much work.
const ANSWERED: i32 = 3;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The setting for how much of an answer a peer takes before it asks for more, and the least that it may be. HTTP/2 allows
/// none at all, with which a peer has its answers pile up here; clients of gRPC begin with 65,535 and more.
const INITIAL_WINDOW: [u8; 2] = [0, 4];
const LEAST_WINDOW: u32 = 1_024;
/// An entry of SETTINGS: number (2 bytes) and value (4 bytes).
const SETTING: usize = 6;

/// What a peer did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// This is no HTTP/2.
    Preface,
    /// It has no frames left that ask for nothing.
    Allowance,
    /// It will take no answers.
    Window,
}

/// Where in its frames a peer is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that have come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of the head that have come; 0 between two frames and within the payload.
    in_head: usize,
    /// Bytes of the payload that have not come.
    payload: usize,
    /// A header block that is not at its end.
    in_block: bool,
    /// An entry of SETTINGS as far as it has come; `None` in any other frame.
    setting: Option<([u8; SETTING], usize)>,
    shut: bool,
    /// Something that was there in part has come whole since this was last asked.
    moved_on: bool,
    allowance: i32,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: 0,
            head: [0; HEAD],
            in_head: 0,
            payload: 0,
            in_block: false,
            setting: None,
            shut: false,
            moved_on: false,
            allowance: ALLOWANCE,
        }
    }
}

impl Frames {
    /// Whether nothing is there in part.
    pub(super) const fn at_rest(&self) -> bool {
        self.in_head == 0 && self.payload == 0 && !self.in_block && !self.in_preface()
    }

    /// Whether the preface is not there yet.
    pub(super) const fn in_preface(&self) -> bool {
        self.preface < PREFACE.len()
    }

    /// Whether since the last call something came to its end, so that what is there in part now is something else.
    pub(super) const fn has_moved_on(&mut self) -> bool {
        std::mem::replace(&mut self.moved_on, false)
    }

    /// Frames that ask for nothing may come again.
    pub(super) const fn allow_anew(&mut self) {
        self.allowance = ALLOWANCE;
    }

    /// Follows what came. After [`Breach::Allowance`] it has been followed all the same.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Breach> {
        if self.in_preface() {
            let due = &PREFACE[self.preface..];
            let came = bytes.len().min(due.len());
            // Judged by the byte: who speaks something else waits for an answer, and would wait in vain.
            if bytes[..came] != due[..came] {
                return Err(Breach::Preface);
            }
            self.preface += came;
            self.moved_on = !self.in_preface();
            bytes = &bytes[came..];
        }
        while !bytes.is_empty() {
            if self.payload > 0 {
                let came = bytes.len().min(self.payload);
                if self.setting.is_some() {
                    self.settings(&bytes[..came]);
                }
                self.payload -= came;
                bytes = &bytes[came..];
            } else if let (0, Some((head, rest))) = (self.in_head, bytes.split_first_chunk()) {
                self.begin(head);
                bytes = rest;
            } else {
                let came = bytes.len().min(HEAD - self.in_head);
                self.head[self.in_head..self.in_head + came].copy_from_slice(&bytes[..came]);
                self.in_head += came;
                bytes = &bytes[came..];
                if self.in_head < HEAD {
                    break;
                }
                self.in_head = 0;
                self.begin(&self.head.clone());
            }
            if self.payload == 0 && !self.in_block {
                self.moved_on = true;
            }
        }
        if self.shut {
            return Err(Breach::Window);
        }
        if self.allowance < 0 {
            return Err(Breach::Allowance);
        }
        Ok(())
    }

    #[cold]
    fn settings(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let Some((entry, came)) = &mut self.setting else {
                return;
            };
            entry[*came] = byte;
            *came += 1;
            if *came == SETTING {
                *came = 0;
                let [a, b, value @ ..] = *entry;
                if [a, b] == INITIAL_WINDOW && u32::from_be_bytes(value) < LEAST_WINDOW {
                    self.shut = true;
                }
            }
        }
        if bytes.len() == self.payload {
            self.setting = None;
        }
    }

    fn begin(&mut self, &[a, b, c, kind, flags, ..]: &[u8; HEAD]) {
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let change = match kind {
            // A call, and what belongs to it, earns back what windows and pings around it cost. Empty ones are for the
            // library to count.
            DATA => i32::from(self.payload > 0),
            HEADERS => {
                self.in_block = flags & END_HEADERS == 0;
                CALL
            }
            CONTINUATION => {
                self.in_block = flags & END_HEADERS == 0;
                -1
            }
            RST_STREAM => -CALL,
            SETTINGS => {
                self.setting = (flags & ACK == 0).then_some(([0; SETTING], 0));
                -ANSWERED
            }
            PING => -ANSWERED,
            // WINDOW_UPDATE, PRIORITY, GOAWAY, and what nobody has heard of.
            _ => -1,
        };
        self.allowance = self.allowance.saturating_add(change).min(ALLOWANCE);
    }
}

#[cfg(test)]
mod tests;
