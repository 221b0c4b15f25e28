//! Declares an enum together with the list of its variants.

macro_rules! listed {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All variants, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

pub(crate) use listed;
