//! Bytes that carry something along until the last of them is gone.

use bytes::Bytes;

struct Carried<T> {
    bytes: Bytes,
    _along: T,
}

impl<T> AsRef<[u8]> for Carried<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes. What they carry is dropped with the last part of them.
pub(crate) fn carrying<T: Send + 'static>(bytes: Bytes, along: T) -> Bytes {
    Bytes::from_owner(Carried { bytes, _along: along })
}
