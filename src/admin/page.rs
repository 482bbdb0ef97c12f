//! The page: a fixed table of files that are part of the binary. Nothing else is served, whatever a path says.

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

/// All of them.
pub const ASSETS: &[Asset] = &[Asset {
    path: "/",
    content_type: "text/html; charset=utf-8",
    bytes: include_bytes!("page/index.html"),
}];
