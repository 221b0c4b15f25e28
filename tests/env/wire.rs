//! Just enough of the client protocols of MySQL and PostgreSQL to find a COMMIT in what a client sends, however the bytes
//! are cut.

/// As much of a message as is kept; a COMMIT is far shorter.
const KEPT_BYTES: usize = 32;

/// What a client speaks, known by the first bytes that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Packets of a length (3 bytes, the lowest first) and a number.
    MySql,
    /// Messages of a letter and a length (4 bytes, the highest first, itself counted); before the client is greeted, only
    /// of a length.
    Postgres {
        /// The client's first message has ended.
        is_begun: bool,
    },
}

impl Protocol {
    /// A greeting of PostgreSQL is shorter than 64 KiB, so its first two bytes are zero; MySQL's are those of a length.
    fn of(first: &[u8]) -> Self {
        if first[..2] == [0, 0] { Self::Postgres { is_begun: false } } else { Self::MySql }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::MySql | Self::Postgres { is_begun: false } => 4,
            Self::Postgres { is_begun: true } => 5,
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

    /// Whether a whole message says COMMIT. A packet of LOAD DATA's rows may read the same but has a higher number.
    fn is_commit(self, header: &[u8], body: &[u8]) -> bool {
        const COM_QUERY: u8 = 3;
        let statement = match self {
            Self::MySql if header[3] == 0 && body.first() == Some(&COM_QUERY) => &body[1..],
            Self::Postgres { is_begun: true } if header[0] == b'Q' => body,
            Self::MySql | Self::Postgres { .. } => return false,
        };
        let statement = String::from_utf8_lossy(statement);
        let first = statement.split([';', '\0']).next().unwrap_or_default();
        first.trim().eq_ignore_ascii_case("commit")
    }
}

/// Follows one client's stream of messages.
#[derive(Debug, Default)]
pub struct ClientStream {
    protocol: Option<Protocol>,
    header: Vec<u8>,
    body: Vec<u8>,
    remaining_bytes: usize,
}

impl ClientStream {
    /// Takes the next bytes; true when a COMMIT ended within them.
    pub fn has_commit(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while !bytes.is_empty() {
            let wanted = self.protocol.map_or(4, Protocol::header_bytes);
            if self.header.len() < wanted {
                let taken = bytes.len().min(wanted - self.header.len());
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if self.header.len() == wanted {
                    let protocol = *self.protocol.get_or_insert_with(|| Protocol::of(&self.header));
                    self.remaining_bytes = protocol.body_bytes(&self.header);
                    self.body.clear();
                }
            } else {
                let taken = bytes.len().min(self.remaining_bytes);
                let kept = taken.min(KEPT_BYTES - self.body.len());
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

    /// Ends the message; whether it was a COMMIT.
    fn end_message(&mut self) -> bool {
        let Some(protocol) = self.protocol else { return false };
        let is_commit = protocol.is_commit(&self.header, &self.body);
        if protocol == (Protocol::Postgres { is_begun: false }) {
            self.protocol = Some(Protocol::Postgres { is_begun: true });
        }
        self.header.clear();
        is_commit
    }
}
