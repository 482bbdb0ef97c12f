//! The macros that turn one definition of each setting into everything that is made of it.

/// Defines the groups of settings. One line a setting, `name: Type = default, bound;`, under a doc
/// comment whose first paragraph says what it is and whose second says why it is so. It yields a struct
/// for each group, [`Config`](crate::config::Config), `Default`, the constants in `defaults`, the table
/// of all settings, and the step from checked values to a `Config`.
macro_rules! settings {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $Type:ty = $default:expr, $bound:expr;
            )+
        }
    )+) => {
        /// Every default, as a constant, so that related ones are checked against each other when
        /// infeed is built.
        #[allow(non_upper_case_globals)]
        pub mod defaults {
            $(
                $(#[doc = $group_doc])+
                pub mod $group {
                    use super::super::*;
                    $(
                        $(#[doc = $doc])+
                        pub const $name: <$Type as Field>::Const = $default;
                    )+
                }
            )+
        }

        $(
            $(#[doc = $group_doc])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Group {
                $(
                    $(#[doc = $doc])+
                    pub $name: $Type,
                )+
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($name: <$Type as Field>::from_const(defaults::$group::$name),)+ }
                }
            }

            impl $Group {
                /// Sets one setting of the group to a value that [`Setting::check`] has let through.
                ///
                /// # Panics
                /// On a name that the group doesn't hold, or a value of another kind: a defect of infeed.
                pub(super) fn put(&mut self, name: &str, value: &Value) {
                    match name {
                        $(stringify!($name) => self.$name = <$Type as Field>::from_value(value),)+
                        _ => panic!("no setting {}.{name}", stringify!($group)),
                    }
                }

                /// The value of one setting of the group; `None` for a name that it doesn't hold.
                pub fn value(&self, name: &str) -> Option<Value> {
                    match name {
                        $(stringify!($name) => Some(<$Type as Field>::to_value(&self.$name)),)+
                        _ => None,
                    }
                }
            }
        )+

        /// The resolved configuration: plain values, each within its bound.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(
                $(#[doc = $group_doc])+
                pub $group: $Group,
            )+
            /// The MTAs, in the order of the file; never empty. Where the file has no `[[mta]]` it is one,
            /// named [`ONLY_MTA`](crate::config::ONLY_MTA), with the settings of `mta`.
            pub mta_entries: Vec<MtaEntry>,
        }

        impl Default for Config {
            fn default() -> Self {
                let mut config = Self { $($group: $Group::default(),)+ mta_entries: Vec::new() };
                config.mta_entries.push(MtaEntry::only(config.mta.clone()));
                config
            }
        }

        impl Config {
            /// Sets one setting to a value that [`Setting::check`] has let through.
            ///
            /// # Panics
            /// On a name that the table doesn't hold, or a value of another kind: a defect of infeed.
            pub(super) fn put(&mut self, group: &str, name: &str, value: &Value) {
                match group {
                    $(stringify!($group) => self.$group.put(name, value),)+
                    _ => panic!("no group [{group}]"),
                }
            }

            /// The value of one setting; `None` for a name that the table doesn't hold.
            pub fn value(&self, group: &str, name: &str) -> Option<Value> {
                match group {
                    $(stringify!($group) => self.$group.value(name),)+
                    _ => None,
                }
            }
        }

        /// Every setting, in the order of the sample file.
        pub fn table() -> &'static [Setting] {
            static TABLE: std::sync::LazyLock<Vec<Setting>> = std::sync::LazyLock::new(|| vec![
                $($(
                    Setting {
                        group: stringify!($group),
                        name: stringify!($name),
                        kind: <$Type as Field>::KIND,
                        default: <$Type as Field>::to_value(
                            &<$Type as Field>::from_const(defaults::$group::$name)),
                        bound: $bound,
                        doc: concat!($($doc, "\n",)+),
                    },
                )+)+
            ]);
            &TABLE
        }

        /// The groups with what each is about, in the order of the sample file.
        pub(super) const GROUPS: &[(&str, &str)] =
            &[$((stringify!($group), concat!($($group_doc, "\n",)+)),)+];
    };
}

/// Defines which setting must not exceed which. Each is checked over the defaults when infeed is built,
/// and over the resolved values at every start.
macro_rules! relations {
    ($($low_group:ident.$low:ident <= $high_group:ident.$high:ident: $why:literal;)+) => {
        $(const _: () = assert!(defaults::$low_group::$low <= defaults::$high_group::$high, $why);)+

        /// The relations that `config` breaks: the two settings' full names, and why it matters.
        pub(super) fn broken_relations(config: &Config) -> Vec<(&'static str, &'static str, &'static str)> {
            let mut broken = Vec::new();
            $(
                if config.$low_group.$low > config.$high_group.$high {
                    broken.push((
                        concat!(stringify!($low_group), ".", stringify!($low)),
                        concat!(stringify!($high_group), ".", stringify!($high)),
                        $why,
                    ));
                }
            )+
            broken
        }
    };
}
