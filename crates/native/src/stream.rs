//! The client half of the event stream: server-sent events, bytes in, events out. No I/O.
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html>, as far as the bastion uses it.

/// Longest block that is put together, in bytes.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The place in the record that this block moves the reader to.
    pub id: Option<u64>,
    /// The kind; empty for a block that only moves the place.
    pub event: String,
    /// What it carries, as JSON.
    pub data: String,
}

/// A stream that is no event stream; says in what way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// Puts blocks together from pieces of any size. What it holds is bounded by [`BLOCK_BYTES_MAX`] and a small constant.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    block: Block,
    begun: bool,
}

impl Decoder {
    /// Takes in bytes and gives out the blocks that they complete.
    ///
    /// # Errors
    /// [`Broken`]; the decoder is of no use then.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<Vec<Block>, Broken> {
        let mut done = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() + self.block.data.len() > BLOCK_BYTES_MAX {
                    return Err(Broken("an event is too long"));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let line = std::str::from_utf8(line).map_err(|_| Broken("it is no text"))?;
            if !line.is_empty() {
                self.field(line)?;
                self.begun = true;
            } else if std::mem::take(&mut self.begun) {
                done.push(std::mem::take(&mut self.block));
            }
        }
        Ok(done)
    }

    fn field(&mut self, line: &str) -> Result<(), Broken> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.block.id = Some(value.parse().map_err(|_| Broken("a place in it is no number"))?),
            "event" => value.clone_into(&mut self.block.event),
            "data" => {
                if !self.block.data.is_empty() {
                    self.block.data.push('\n');
                }
                self.block.data.push_str(value);
            }
            // Comments, and fields of a later version.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b": ravelin events\nretry: 1000\nid: 4\n\nid: 5\nevent: session_opened\ndata: {\"a\":\"\xc3\xa4\"}\n\n\
        \n: heartbeat\r\nid: 9\r\n\r\nevent: gap\ndata: {\ndata: }\n\nid: 10";

    fn blocks() -> Vec<Block> {
        let block = |id, event: &str, data: &str| Block { id, event: event.to_owned(), data: data.to_owned() };
        vec![
            block(Some(4), "", ""),
            block(Some(5), "session_opened", "{\"a\":\"ä\"}"),
            block(Some(9), "", ""),
            block(None, "gap", "{\n}"),
        ]
    }

    #[test]
    fn blocks_are_the_same_however_the_bytes_arrive() {
        for size in 1..STREAM.len() {
            let mut decoder = Decoder::default();
            let mut all = Vec::new();
            for piece in STREAM.chunks(size) {
                all.extend(decoder.handle(piece).expect("a good stream"));
            }
            assert_eq!(all, blocks(), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_event_stream_is_refused() {
        assert!(Decoder::default().handle(b"id: x\n").is_err());
        assert!(Decoder::default().handle(b"data: \xff\n").is_err());
        let mut decoder = Decoder::default();
        let long = vec![b'a'; BLOCK_BYTES_MAX / 2];
        assert!(decoder.handle(&long).is_ok());
        assert!(decoder.handle(&long).is_ok());
        assert!(decoder.handle(b"a").is_err());
    }
}
