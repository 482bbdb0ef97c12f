//! Bytes in and out: little-endian integers and length-prefixed strings, checked on the way in.

/// Appends to a buffer.
#[derive(Default)]
pub struct Enc(pub Vec<u8>);

impl Enc {
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub fn raw(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// At most 65,535 bytes; longer is cut at a character's edge (texts of replies only).
    pub fn str16(&mut self, v: &str) -> &mut Self {
        let cut = v.floor_char_boundary(usize::from(u16::MAX).min(v.len()));
        self.u16(cut as u16).raw(&v.as_bytes()[..cut])
    }
    pub fn str32(&mut self, v: &str) -> &mut Self {
        let len = u32::try_from(v.len());
        assert!(len.is_ok(), "a field of {} bytes", v.len());
        self.u32(v.len() as u32).raw(v.as_bytes())
    }
}

/// Reads from a slice; `None` when it ends too early or is no UTF-8.
#[derive(Clone)]
pub struct Dec<'a>(pub &'a [u8]);

impl<'a> Dec<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
    pub fn str16(&mut self) -> Option<&'a str> {
        let n = usize::from(self.u16()?);
        std::str::from_utf8(self.take(n)?).ok()
    }
    pub fn str32(&mut self) -> Option<&'a str> {
        let n = self.u32()? as usize;
        std::str::from_utf8(self.take(n)?).ok()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `magic | u32 length | u32 CRC-32 | header`: how chunk and results files begin.
pub fn framed(magic: &[u8; 8], header: &[u8]) -> Vec<u8> {
    let mut out = Enc(Vec::with_capacity(16 + header.len()));
    out.raw(magic).u32(header.len() as u32).u32(crc32fast::hash(header)).raw(header);
    out.0
}

/// The header and what follows it; the reason when it isn't one.
pub fn unframe<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), String> {
    let mut d = Dec(bytes);
    let short = || format!("{} bytes are too few", bytes.len());
    if d.take(8).ok_or_else(short)? != magic {
        return Err(format!("it doesn't begin with {}", String::from_utf8_lossy(magic)));
    }
    let len = d.u32().ok_or_else(short)? as usize;
    let crc = d.u32().ok_or_else(short)?;
    let header = d.take(len).ok_or_else(short)?;
    if crc32fast::hash(header) != crc {
        return Err("the checksum of its header doesn't match".into());
    }
    Ok((header, d.0))
}
