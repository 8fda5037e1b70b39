//! The guest's memory, as the functions of WASI preview 1 read and write it; and their error numbers.

/// An error number of WASI preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub u16);

/// The numbers that are used here (WASI `witx/typenames.witx`, `$errno`), and those that WasmEdge added for names
/// (its `include/host/wasi/error.h`).
impl Errno {
    pub(crate) const ACCES: Self = Self(2);
    pub(crate) const ADDRINUSE: Self = Self(3);
    pub(crate) const AFNOSUPPORT: Self = Self(5);
    pub(crate) const AGAIN: Self = Self(6);
    pub(crate) const ALREADY: Self = Self(7);
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const CONNABORTED: Self = Self(13);
    pub(crate) const CONNREFUSED: Self = Self(14);
    pub(crate) const CONNRESET: Self = Self(15);
    pub(crate) const DESTADDRREQ: Self = Self(17);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const HOSTUNREACH: Self = Self(23);
    pub(crate) const INPROGRESS: Self = Self(26);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const IO: Self = Self(29);
    pub(crate) const ISCONN: Self = Self(30);
    pub(crate) const MFILE: Self = Self(33);
    pub(crate) const NETUNREACH: Self = Self(40);
    pub(crate) const NOPROTOOPT: Self = Self(50);
    pub(crate) const NOTCONN: Self = Self(53);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const PIPE: Self = Self(64);
    pub(crate) const PROTOTYPE: Self = Self(67);
    pub(crate) const TIMEDOUT: Self = Self(73);
    pub(crate) const AI_AGAIN: Self = Self(78);
    pub(crate) const AI_NONAME: Self = Self(84);
    pub(crate) const AI_SERVICE: Self = Self(85);
}

impl From<&std::io::Error> for Errno {
    fn from(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::CONNREFUSED,
            ErrorKind::ConnectionReset => Self::CONNRESET,
            ErrorKind::ConnectionAborted => Self::CONNABORTED,
            ErrorKind::NotConnected => Self::NOTCONN,
            ErrorKind::BrokenPipe => Self::PIPE,
            ErrorKind::TimedOut => Self::TIMEDOUT,
            ErrorKind::HostUnreachable => Self::HOSTUNREACH,
            ErrorKind::NetworkUnreachable => Self::NETUNREACH,
            ErrorKind::WouldBlock => Self::AGAIN,
            ErrorKind::InvalidInput => Self::INVAL,
            ErrorKind::PermissionDenied => Self::ACCES,
            _ => Self::IO,
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self::from(&error)
    }
}

/// A guest's linear memory.
pub(crate) struct Memory<'a>(pub &'a mut [u8]);

impl Memory<'_> {
    fn range(at: u32, len: u32) -> Result<std::ops::Range<usize>, Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::FAULT)?;
        let len = usize::try_from(len).map_err(|_| Errno::FAULT)?;
        Ok(at..at.checked_add(len).ok_or(Errno::FAULT)?)
    }

    /// `len` bytes from `at`.
    pub(crate) fn bytes(&self, at: u32, len: u32) -> Result<&[u8], Errno> {
        self.0.get(Self::range(at, len)?).ok_or(Errno::FAULT)
    }

    /// The same, to be changed.
    pub(crate) fn bytes_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], Errno> {
        self.0.get_mut(Self::range(at, len)?).ok_or(Errno::FAULT)
    }

    /// A fixed number of bytes from `at`.
    pub(crate) fn array<const N: usize>(&self, at: u32) -> Result<[u8; N], Errno> {
        let len = u32::try_from(N).map_err(|_| Errno::FAULT)?;
        self.bytes(at, len)?.try_into().map_err(|_| Errno::FAULT)
    }

    /// A byte.
    pub(crate) fn u8(&self, at: u32) -> Result<u8, Errno> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    /// A number of two bytes.
    pub(crate) fn u16(&self, at: u32) -> Result<u16, Errno> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    /// A number of four bytes.
    pub(crate) fn u32(&self, at: u32) -> Result<u32, Errno> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    /// A number of eight bytes.
    pub(crate) fn u64(&self, at: u32) -> Result<u64, Errno> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    /// Writes bytes.
    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.bytes_mut(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a number of two bytes.
    pub(crate) fn put_u16(&mut self, at: u32, value: u16) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    /// Writes a number of four bytes.
    pub(crate) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }
}

/// `at` further on.
pub(crate) fn offset(at: u32, by: u32) -> Result<u32, Errno> {
    at.checked_add(by).ok_or(Errno::FAULT)
}
