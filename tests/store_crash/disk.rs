//! A disk with a cache before it, whose power goes at a given call.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::support::Random;

/// What a cut leaves of the writes since the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// Those up to some point, the last of them torn anywhere.
    Tail,
    /// Any of their sectors, whatever came before them.
    AnySector,
}

/// A disk with a cache before it.
#[derive(Debug)]
pub struct Disk {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it is without the cache.
    kept: Vec<u8>,
    /// What the cache holds, in order.
    cache: Vec<Cached>,
    /// Writes and syncs until the cut.
    calls_left: u64,
    dark: bool,
    loss: Loss,
    /// A disk that says it synced and did not.
    pub lies: bool,
    /// The next sync fails, once, and the cache is lost: what Linux does when writing back fails.
    pub fails_next_sync: bool,
    random: Random,
}

#[derive(Debug, Clone)]
enum Cached {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Cached {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(length) => image.resize(*length, 0),
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// Its parts that reach the disk whole or not at all.
    fn sectors(&self) -> Vec<Self> {
        const SECTOR: usize = 512;
        let Self::Write { offset, data } = self else {
            return vec![self.clone()];
        };
        let mut sectors = Vec::new();
        let mut from = 0;
        while from < data.len() {
            let to = data.len().min(from + SECTOR - (offset + from) % SECTOR);
            sectors.push(Self::Write {
                offset: offset + from,
                data: data[from..to].to_vec(),
            });
            from = to;
        }
        sectors
    }
}

impl Disk {
    pub fn new(image: Vec<u8>, calls_left: u64, loss: Loss, random: Random) -> Self {
        Self {
            seen: image.clone(),
            kept: image,
            cache: Vec::new(),
            calls_left,
            dark: false,
            loss,
            lies: false,
            fails_next_sync: false,
            random,
        }
    }

    /// Counts a call. The one that is cut still leaves in the cache what it wrote.
    fn call(&mut self, write: Option<Cached>) -> io::Result<()> {
        if self.dark {
            return Err(dark());
        }
        if let Some(write) = write {
            write.apply(&mut self.seen);
            self.cache.push(write);
        }
        if self.calls_left == 0 {
            self.cut();
            return Err(dark());
        }
        self.calls_left -= 1;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.call(None)?;
        if std::mem::take(&mut self.fails_next_sync) {
            self.cache.clear();
            return Err(io::Error::other("a bad sector"));
        }
        if !self.lies {
            for write in self.cache.drain(..) {
                write.apply(&mut self.kept);
            }
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.dark = true;
        let cache = std::mem::take(&mut self.cache);
        match self.loss {
            Loss::All => {}
            Loss::Tail => {
                let whole = self.below(cache.len() + 1);
                for write in &cache[..whole] {
                    write.apply(&mut self.kept);
                }
                if let Some(Cached::Write { offset, data }) = cache.get(whole) {
                    let data = data[..self.below(data.len() + 1)].to_vec();
                    let offset = *offset;
                    Cached::Write { offset, data }.apply(&mut self.kept);
                }
            }
            Loss::AnySector => {
                // From hardly any to nearly all.
                let share = 1 + self.random.below(15);
                for sector in cache.iter().flat_map(Cached::sectors) {
                    if self.random.below(16) < share {
                        sector.apply(&mut self.kept);
                    }
                }
            }
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let below = self.random.below(bound as u64);
        usize::try_from(below).expect("below a usize")
    }
}

fn dark() -> io::Error {
    io::Error::other("the power is gone")
}

/// What the database writes to.
#[derive(Debug, Clone)]
pub struct Plugged(Arc<Mutex<Disk>>);

impl Plugged {
    pub fn new(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    pub fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().expect("no holder panics")
    }

    /// What is left when the power goes, now if it has not yet.
    pub fn pull(self) -> Vec<u8> {
        let mut disk = self.disk();
        if !disk.dark {
            disk.cut();
        }
        std::mem::take(&mut disk.kept)
    }
}

pub fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a small disk")
}

impl StorageBackend for Plugged {
    fn len(&self) -> io::Result<u64> {
        let disk = self.disk();
        if disk.dark {
            return Err(dark());
        }
        Ok(disk.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk();
        if disk.dark {
            return Err(dark());
        }
        let from = place(offset);
        let found = disk.seen.get(from..from + out.len());
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk().call(Some(Cached::Length(place(len))))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk().sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = place(offset);
        let data = data.to_vec();
        self.disk().call(Some(Cached::Write { offset, data }))
    }
}
