//! The packages, and what of the build belongs into each. All else of a package is in `dist/NAME`.

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name; `dist/NAME` has its files.
    pub(crate) name: &'static str,
    pub(crate) programs: &'static [Program],
    /// Files of the workspace and where they are installed.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Directories that are installed empty.
    pub(crate) directories: &'static [&'static str],
    pub(crate) keys: Keys,
}

/// One program of ours.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The crate that it is built from.
    pub(crate) cargo: &'static str,
    /// Where it is installed.
    pub(crate) directory: &'static str,
}

/// Whether a package carries the keys that hosts trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Carried,
    NotCarried,
}

/// All packages.
pub(crate) const PACKAGES: &[Package] = &[
    Package {
        name: "livepatch",
        programs: &[
            Program { name: "livepatchd", cargo: "livepatch-agent", directory: "usr/sbin" },
            Program { name: "livepatch-loader", cargo: "livepatch-loader", directory: "usr/sbin" },
            Program { name: "livepatch-observer", cargo: "livepatch-observer", directory: "usr/sbin" },
            Program { name: "livepatch", cargo: "livepatch-cli", directory: "usr/bin" },
        ],
        files: &[("crates/settings/livepatch.toml", "etc/livepatch/livepatch.toml")],
        directories: &["etc/livepatch/trust"],
        keys: Keys::Carried,
    },
    Package {
        name: "livepatch-server",
        programs: &[Program { name: "livepatch-server", cargo: "livepatch-server", directory: "usr/bin" }],
        files: &[],
        directories: &[],
        keys: Keys::NotCarried,
    },
    Package {
        name: "livepatch-builder",
        programs: &[Program { name: "livepatch-build", cargo: "livepatch-build", directory: "usr/bin" }],
        files: &[],
        directories: &[],
        keys: Keys::NotCarried,
    },
    Package {
        name: "livepatch-legacy-names",
        programs: &[],
        files: &[],
        directories: &[],
        keys: Keys::NotCarried,
    },
];
