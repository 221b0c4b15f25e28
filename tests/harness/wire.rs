//! Just enough of the MySQL client protocol to find a COMMIT in what a client sends, however the bytes are cut.

/// The command byte of a query in text.
const COM_QUERY: u8 = 3;
const HEADER_BYTES: usize = 4;
/// As much of a packet as is kept; a COMMIT is far shorter.
const KEPT_BYTES: usize = 32;

/// Follows one client's stream of packets.
#[derive(Debug, Default)]
pub struct ClientStream {
    header: Vec<u8>,
    kept: Vec<u8>,
    remaining_bytes: usize,
}

impl ClientStream {
    /// Takes the next bytes; true when a COMMIT ended within them.
    pub fn has_commit(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while !bytes.is_empty() {
            if self.header.len() < HEADER_BYTES {
                let taken = bytes.len().min(HEADER_BYTES - self.header.len());
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if self.header.len() == HEADER_BYTES {
                    self.remaining_bytes = usize::from(self.header[0])
                        | usize::from(self.header[1]) << 8
                        | usize::from(self.header[2]) << 16;
                    self.kept.clear();
                }
            } else {
                let taken = bytes.len().min(self.remaining_bytes);
                let kept = taken.min(KEPT_BYTES - self.kept.len());
                self.kept.extend_from_slice(&bytes[..kept]);
                self.remaining_bytes -= taken;
                bytes = &bytes[taken..];
            }
            if self.header.len() == HEADER_BYTES && self.remaining_bytes == 0 {
                found |= self.is_commit();
                self.header.clear();
            }
        }
        found
    }

    /// Whether the packet that just ended is a command (number 0 of its exchange) that says COMMIT. A packet of LOAD
    /// DATA's rows may read the same but has a higher number.
    fn is_commit(&self) -> bool {
        let Some((&command, statement)) = self.kept.split_first() else { return false };
        let statement = String::from_utf8_lossy(statement);
        let statement = statement.trim().trim_end_matches(';');
        self.header[3] == 0 && command == COM_QUERY && statement.eq_ignore_ascii_case("commit")
    }
}
