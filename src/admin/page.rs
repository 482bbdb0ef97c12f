//! The page: a fixed table of files that are part of the binary. Nothing else is served, whatever a path says.
//!
//! They are in `src/admin/page`, as they are served: no build step. `app.js` says which script is what. They
//! run under a policy that lets nothing in from elsewhere and no script or style stand in the markup, and put
//! whatever they are told into the page as text. uPlot 1.6.32 (MIT, `uplot-LICENSE.txt`) draws the charts:
//! `dist/uPlot.iife.min.js` and `dist/uPlot.min.css` of its npm package, as they are.

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! assets {
    ($($content_type:ident $path:literal $file:literal;)+) => {
        /// All of them.
        pub const ASSETS: &[Asset] = &[$(
            Asset {
                path: $path,
                content_type: $content_type,
                bytes: include_bytes!(concat!("page/", $file)),
            }
        ),+];
    };
}

assets! {
    HTML "/" "index.html";
    STYLE "/assets/style.css" "style.css";
    SCRIPT "/assets/app.js" "app.js";
    SCRIPT "/assets/api.js" "api.js";
    SCRIPT "/assets/charts.js" "charts.js";
    SCRIPT "/assets/dialogs.js" "dialogs.js";
    SCRIPT "/assets/dom.js" "dom.js";
    SCRIPT "/assets/format.js" "format.js";
    SCRIPT "/assets/jobs.js" "jobs.js";
    SCRIPT "/assets/mtas.js" "mtas.js";
    SCRIPT "/assets/overview.js" "overview.js";
    SCRIPT "/assets/refusals.js" "refusals.js";
    SCRIPT "/assets/series.js" "series.js";
    SCRIPT "/assets/uplot.js" "uplot.js";
    STYLE "/assets/uplot.css" "uplot.css";
    TEXT "/assets/uplot-LICENSE.txt" "uplot-LICENSE.txt";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).expect("UTF-8")
    }

    fn ours() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().filter(|asset| !asset.path.contains("uplot"))
    }

    /// What stands between this and the next quotation mark, wherever it occurs.
    fn quoted_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(mark).skip(1).filter_map(|rest| rest.split(['"', '\'']).next())
    }

    #[test]
    fn every_file_is_served_and_every_file_that_is_asked_for_is_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        let files = std::fs::read_dir(folder).expect("the page's folder").count();
        let served: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        assert_eq!((served.len(), files), (ASSETS.len(), ASSETS.len()));
        let mut asked = 0;
        for asset in ours() {
            let modules = quoted_after(text(asset), "from './").map(|name| format!("/assets/{name}"));
            let marks = ["href=\"/", "src=\"/"].into_iter();
            let linked =
                marks.flat_map(|mark| quoted_after(text(asset), mark)).map(|path| format!("/{path}"));
            for path in modules.chain(linked) {
                asked += 1;
                assert!(served.contains(path.as_str()), "{} asks for {path}", asset.path);
            }
        }
        assert!(asked > 20, "{asked} references were found");
    }

    #[test]
    fn nothing_becomes_markup_and_nothing_comes_from_elsewhere() {
        for asset in ours() {
            let text = text(asset);
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "DOMParser",
                "localStorage",
                "document.cookie",
                "http://",
                "https://",
                "url(",
                "@import",
                " style=\"",
                " onclick=",
                "javascript:",
            ] {
                assert!(!text.contains(bad), "{} has {bad}", asset.path);
            }
        }
        let index = text(&ASSETS[0]);
        assert_eq!(index.matches("<script").count(), index.matches("<script src=\"/assets/").count());
        assert!(!index.contains("<style"));
    }

    #[test]
    fn the_library_is_the_version_that_is_named_and_its_licence_comes_with_it() {
        let of = |path: &str| {
            let found = ASSETS.iter().find(|asset| asset.path == path);
            text(found.unwrap_or_else(|| panic!("no {path}")))
        };
        assert!(of("/assets/uplot.js").starts_with("/*! https://github.com/leeoniya/uPlot (v1.6.32) */"));
        assert!(of("/assets/uplot-LICENSE.txt").starts_with("The MIT License"));
    }
}
