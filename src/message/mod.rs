pub mod content;
pub use content::Content;
