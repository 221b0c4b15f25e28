//! Finds a COMMIT in the bytes that a client of MySQL or PostgreSQL sends, wherever reads split them.

/// The number of buffered bytes of a message. A COMMIT is shorter.
const BUFFER_BYTES: usize = 32;

/// A client protocol, detected by the first bytes of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Packets with a length (3 bytes, little-endian) and a sequence number.
    MySql,
    /// Messages with a type letter and a length (4 bytes, big-endian, including itself). The startup message has no letter.
    Postgres {
        /// Whether the startup message has ended.
        has_started: bool,
    },
}

impl Protocol {
    /// The protocol of these first bytes.
    ///
    /// A startup message of PostgreSQL is shorter than 64 KiB, so it begins with two zero bytes. A packet of MySQL begins
    /// with the low bytes of its length.
    fn detect(first: &[u8]) -> Self {
        if first[..2] == [0, 0] { Self::Postgres { has_started: false } } else { Self::MySql }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::MySql | Self::Postgres { has_started: false } => 4,
            Self::Postgres { has_started: true } => 5,
        }
    }

    fn body_bytes(self, header: &[u8]) -> usize {
        match self {
            Self::MySql => header[..3].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            Self::Postgres { .. } => {
                let length = header[header.len() - 4..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                length.saturating_sub(4)
            }
        }
    }

    /// Whether a complete message is a COMMIT. A packet with rows of LOAD DATA has a higher sequence number.
    fn is_commit(self, header: &[u8], body: &[u8]) -> bool {
        const COM_QUERY: u8 = 3;
        let statement = match self {
            Self::MySql if header[3] == 0 && body.first() == Some(&COM_QUERY) => &body[1..],
            Self::Postgres { has_started: true } if header[0] == b'Q' => body,
            Self::MySql | Self::Postgres { .. } => return false,
        };
        let statement = String::from_utf8_lossy(statement);
        let first = statement.split([';', '\0']).next().unwrap_or_default();
        first.trim().eq_ignore_ascii_case("commit")
    }
}

/// Reads the messages of one client.
#[derive(Debug, Default)]
pub struct ClientStream {
    protocol: Option<Protocol>,
    header: Vec<u8>,
    body: Vec<u8>,
    remaining_bytes: usize,
}

impl ClientStream {
    /// Reads the next bytes, and returns whether a COMMIT ends within them.
    pub fn has_commit(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while !bytes.is_empty() {
            let wanted = self.protocol.map_or(4, Protocol::header_bytes);
            if self.header.len() < wanted {
                let taken = bytes.len().min(wanted - self.header.len());
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if self.header.len() == wanted {
                    let protocol = *self.protocol.get_or_insert_with(|| Protocol::detect(&self.header));
                    self.remaining_bytes = protocol.body_bytes(&self.header);
                    self.body.clear();
                }
            } else {
                let taken = bytes.len().min(self.remaining_bytes);
                let kept = taken.min(BUFFER_BYTES - self.body.len());
                self.body.extend_from_slice(&bytes[..kept]);
                self.remaining_bytes -= taken;
                bytes = &bytes[taken..];
            }
            if self.header.len() == wanted && self.remaining_bytes == 0 {
                found |= self.end_message();
            }
        }
        found
    }

    /// Ends the message, and returns whether it is a COMMIT.
    fn end_message(&mut self) -> bool {
        let Some(protocol) = self.protocol else { return false };
        let is_commit = protocol.is_commit(&self.header, &self.body);
        if protocol == (Protocol::Postgres { has_started: false }) {
            self.protocol = Some(Protocol::Postgres { has_started: true });
        }
        self.header.clear();
        is_commit
    }
}
