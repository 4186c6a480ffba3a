//! Lines in, answers out, in order, on every core.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;

use crate::failure::Failure;

/// Some whole lines of the input.
#[derive(Debug)]
pub(crate) struct Chunk {
    first_line: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// The lines that are not blank, with their numbers from 1 and without their ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_line..)
            .zip(self.bytes.split(|byte| *byte == b'\n'))
            .map(|(number, line)| (number, without_mark(number, line).trim_ascii()))
            .filter(|(_, line)| !line.is_empty())
    }
}

/// A line as text.
///
/// # Errors
/// It is too long or not UTF-8; the reason.
pub(crate) fn text(line: &[u8]) -> Result<&str, String> {
    if line.len() > MAX_LINE {
        return Err(format!("the line is longer than {MAX_LINE} bytes"));
    }
    str::from_utf8(line).map_err(|error| format!("not valid UTF-8 after byte {}", error.valid_up_to()))
}

/// Reads `input` to its end. `work` turns each chunk into a result, on several threads; `done` gets the results in the
/// order of the input, and ends everything by failing.
///
/// What arrives slowly is answered at once: a program may write a line and wait for the answer. `name` is what
/// messages call the input.
pub(crate) fn run<T: Send>(
    input: Box<dyn Read + Send>,
    name: &str,
    work: impl Fn(&Chunk) -> T + Sync,
    mut done: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (sender, chunks) = mpsc::sync_channel(1);
    // Not scoped, so that a failure does not wait for input that never comes.
    thread::spawn(move || read(input, &sender));
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let work = &work;
        let workers: Vec<Worker<T>> = (0..threads)
            .map(|_| {
                let (sender, questions) = mpsc::sync_channel::<Chunk>(QUEUE);
                let (answers, receiver) = mpsc::sync_channel(QUEUE);
                scope.spawn(move || {
                    for chunk in questions {
                        if answers.send(work(&chunk)).is_err() {
                            break;
                        }
                    }
                });
                (sender, receiver)
            })
            .collect();
        // Workers take turns, so asking them in the same order again restores the order of the input.
        let mut giving = workers.iter().cycle();
        let mut taking = workers.iter().cycle();
        let mut pending = 0_usize;
        let mut open = true;
        loop {
            while open && pending < threads.saturating_mul(QUEUE) {
                let next = if pending == 0 {
                    chunks.recv().map_err(|_| TryRecvError::Disconnected)
                } else {
                    chunks.try_recv()
                };
                match next {
                    Ok(Ok(chunk)) => {
                        if let Some((sender, _)) = giving.next()
                            && sender.send(chunk).is_ok()
                        {
                            pending = pending.saturating_add(1);
                        }
                    }
                    Ok(Err(error)) => return Err(Failure::unreadable(name, &error)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            if pending == 0 {
                return Ok(());
            }
            if let Some(result) = taking.next().and_then(|(_, receiver)| receiver.recv().ok()) {
                done(result)?;
            }
            pending = pending.saturating_sub(1);
        }
    })
}

/// A thread: where its chunks go in and its results come out.
type Worker<T> = (SyncSender<Chunk>, Receiver<T>);

/// Cuts the input into chunks of whole lines, each as large as one read gives.
fn read(mut input: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Chunk>>) {
    let mut line: u64 = 1;
    let mut rest = Vec::new();
    let mut buffer = vec![0; READ];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return drop(sender.send(Err(error))),
        };
        let new = buffer.get(..count).unwrap_or_default();
        let whole = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end.saturating_add(1),
            // The end of the input ends the last line; a line that is too long is passed on to be refused.
            None if count == 0 || rest.len() > MAX_LINE => count,
            None => {
                rest.extend_from_slice(new);
                continue;
            }
        };
        let (whole, left) = new.split_at_checked(whole).unwrap_or_default();
        rest.extend_from_slice(whole);
        let chunk = Chunk { first_line: line, bytes: core::mem::replace(&mut rest, left.to_vec()) };
        line = line.saturating_add(chunk.bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum());
        if sender.send(Ok(chunk)).is_err() || count == 0 {
            return;
        }
    }
}

/// Some editors begin a file with a byte order mark.
fn without_mark(number: u64, line: &[u8]) -> &[u8] {
    match line.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) if number == 1 => rest,
        _ => line,
    }
}

/// Longest line, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Bytes asked for at a time.
const READ: usize = 1 << 17;

/// Chunks that wait for one thread.
const QUEUE: usize = 2;

/// More threads would only wait for the one that writes.
const MAX_THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(input: &'static [u8]) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        let work = |chunk: &Chunk| {
            let line = |(number, line): (u64, &[u8])| (number, String::from_utf8_lossy(line).into_owned());
            chunk.lines().map(line).collect::<Vec<_>>()
        };
        run(Box::new(input), "test", work, |lines| {
            all.extend(lines);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_left_out() {
        let want = |lines: &[(u64, &str)]| -> Vec<(u64, String)> {
            lines.iter().map(|(number, line)| (*number, (*line).to_owned())).collect()
        };
        assert_eq!(numbers(b""), want(&[]));
        assert_eq!(numbers(b"a"), want(&[(1, "a")]));
        assert_eq!(numbers(b"a\n\r\n \n b \r\n"), want(&[(1, "a"), (4, "b")]));
        assert_eq!(numbers("\u{feff}a\nb".as_bytes()), want(&[(1, "a"), (2, "b")]));
    }

    #[test]
    fn order_is_kept_over_many_chunks() {
        let input: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        let lines = numbers(Box::leak(input.into_boxed_str()).as_bytes());
        assert_eq!(lines.len(), 100_000);
        assert!(lines.iter().all(|(number, line)| *line == (number - 1).to_string()));
    }

    #[test]
    fn a_line_without_end_is_cut_and_refused() {
        let mut seen = Vec::new();
        let work = |chunk: &Chunk| chunk.lines().map(|(_, line)| text(line).map(drop)).collect::<Vec<_>>();
        let input = Box::new(io::repeat(b'x').take(1 << 21));
        run(input, "test", work, |results| {
            seen.extend(results);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen.first(), Some(&Err("the line is longer than 1048576 bytes".to_owned())));
    }
}
