//! The sections of the settings that belong to methods: to each base and each add-on that is registered.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock};

use fgvr_ssl::{AddonConfig, AddonKind, BaseConfig, BaseKind, MethodConfig};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::PretrainConfig;
use crate::{Error, Result};

/// What the choices of a method must be able to do as a section of the settings. Every type that can does.
pub trait Section:
    Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<T> Section for T where
    T: Clone
        + fmt::Debug
        + Default
        + PartialEq
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The choices of one method, whatever their type.
trait Choices: fmt::Debug + Send + Sync {
    fn section(&self) -> &'static str;
    fn method_mut(&mut self) -> &mut dyn MethodConfig;
    /// A copy, of a base's.
    fn base(&self) -> Option<Box<dyn BaseConfig>>;
    /// A copy, of an add-on's.
    fn addon(&self) -> Option<Box<dyn AddonConfig>>;
    fn copy(&self) -> Box<dyn Choices>;
    fn is_same(&self, other: &dyn Choices) -> bool;
    fn to_value(&self) -> Result<Value, toml::ser::Error>;
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

macro_rules! choices {
    ($of:ident: $config:ident { $($own:tt)* }) => {
        #[derive(Debug)]
        struct $of<C>(C);

        impl<C: Section + $config> Choices for $of<C> {
            fn section(&self) -> &'static str {
                self.0.kind().section()
            }

            fn method_mut(&mut self) -> &mut dyn MethodConfig {
                &mut self.0
            }

            $($own)*

            fn copy(&self) -> Box<dyn Choices> {
                Box::new(Self(self.0.clone()))
            }

            fn is_same(&self, other: &dyn Choices) -> bool {
                other.any().downcast_ref::<C>() == Some(&self.0)
            }

            fn to_value(&self) -> Result<Value, toml::ser::Error> {
                Value::try_from(&self.0)
            }

            fn any(&self) -> &dyn Any {
                &self.0
            }

            fn any_mut(&mut self) -> &mut dyn Any {
                &mut self.0
            }
        }
    };
}

choices!(OfBase: BaseConfig {
    fn base(&self) -> Option<Box<dyn BaseConfig>> {
        Some(Box::new(self.0.clone()))
    }

    fn addon(&self) -> Option<Box<dyn AddonConfig>> {
        None
    }
});
choices!(OfAddon: AddonConfig {
    fn base(&self) -> Option<Box<dyn BaseConfig>> {
        None
    }

    fn addon(&self) -> Option<Box<dyn AddonConfig>> {
        Some(Box::new(self.0.clone()))
    }
});

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Base(BaseKind),
    Addon(AddonKind),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Base(kind) => kind.name(),
            Self::Addon(kind) => kind.name(),
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Base(kind) => kind.section(),
            Self::Addon(kind) => kind.section(),
        }
    }
}

/// A method that is registered.
#[derive(Clone, Copy)]
struct Registered {
    kind: Kind,
    /// The type of its choices.
    choices: TypeId,
    default: fn() -> Box<dyn Choices>,
    read: fn(Value) -> Result<Box<dyn Choices>, toml::de::Error>,
}

impl Registered {
    fn base<C: Section + BaseConfig>() -> Self {
        Self {
            kind: Kind::Base(C::default().kind()),
            choices: TypeId::of::<C>(),
            default: || Box::new(OfBase(C::default())),
            read: |value| Ok(Box::new(OfBase(value.try_into::<C>()?))),
        }
    }

    fn addon<C: Section + AddonConfig>() -> Self {
        Self {
            kind: Kind::Addon(C::default().kind()),
            choices: TypeId::of::<C>(),
            default: || Box::new(OfAddon(C::default())),
            read: |value| Ok(Box::new(OfAddon(value.try_into::<C>()?))),
        }
    }
}

/// All methods: those of fgvr-ssl, and what programs have registered.
static REGISTRY: LazyLock<RwLock<Vec<Registered>>> = LazyLock::new(|| {
    RwLock::new(vec![
        Registered::base::<fgvr_ssl::MoCoConfig>(),
        Registered::base::<fgvr_ssl::SimSiamConfig>(),
        Registered::base::<fgvr_ssl::ByolConfig>(),
        Registered::base::<fgvr_ssl::MoCoV3Config>(),
        Registered::base::<fgvr_ssl::DinoConfig>(),
        Registered::base::<fgvr_ssl::DietConfig>(),
        Registered::addon::<fgvr_ssl::SynthPairConfig>(),
        Registered::addon::<fgvr_ssl::PretextConfig>(),
        Registered::addon::<fgvr_ssl::CommonRationaleConfig>(),
        Registered::addon::<fgvr_ssl::LoDiscConfig>(),
        Registered::addon::<fgvr_ssl::PatchMatchConfig>(),
        Registered::addon::<fgvr_ssl::DistilConfig>(),
    ])
});

fn registered() -> Vec<Registered> {
    let all = REGISTRY.read();
    all.unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes a base known by its choices `C`: from then on settings have its section, and `base` takes its name. A program
/// does this at its start. To do it again changes nothing.
///
/// # Errors
/// A name or section that is another method's, and a section that is a setting of every run.
pub fn register_base<C: Section + BaseConfig>() -> Result<()> {
    register(Registered::base::<C>())
}

/// Makes an add-on known by its choices `C`: from then on settings have its section, and `addons` takes its name. A
/// program does this at its start. To do it again changes nothing.
///
/// # Errors
/// A name or section that is another method's, and a section that is a setting of every run.
pub fn register_addon<C: Section + AddonConfig>() -> Result<()> {
    register(Registered::addon::<C>())
}

fn register(new: Registered) -> Result<()> {
    let (name, section) = (new.kind.name(), new.kind.section());
    let taken = |what: String| Err(Error::config(section, format!("{name}: {what}")));
    if PretrainConfig::own_settings().any(|own| own == section) {
        return taken("that is a setting of every run; choose another section".to_owned());
    }
    let mut all = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    for other in all.iter() {
        if other.choices == new.choices && other.kind == new.kind {
            return Ok(());
        }
        if other.kind.name() == name || other.kind.section() == section {
            return taken(format!(
                "name or section is that of {}; choose another",
                other.kind.name()
            ));
        }
    }
    all.push(new);
    Ok(())
}

/// All bases that are registered, those of fgvr-ssl first.
#[must_use]
pub fn base_kinds() -> Vec<BaseKind> {
    let base = |method: Registered| match method.kind {
        Kind::Base(kind) => Some(kind),
        Kind::Addon(_) => None,
    };
    registered().into_iter().filter_map(base).collect()
}

/// All add-ons that are registered, those of fgvr-ssl first.
#[must_use]
pub fn addon_kinds() -> Vec<AddonKind> {
    let addon = |method: Registered| match method.kind {
        Kind::Addon(kind) => Some(kind),
        Kind::Base(_) => None,
    };
    registered().into_iter().filter_map(addon).collect()
}

/// The choices of all methods that are registered; those that nobody made have their defaults.
#[derive(Debug)]
pub struct Methods(Vec<Box<dyn Choices>>);

impl Default for Methods {
    fn default() -> Self {
        let all = registered();
        Self(all.iter().map(|method| (method.default)()).collect())
    }
}

impl Clone for Methods {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|choices| choices.copy()).collect())
    }
}

impl PartialEq for Methods {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && (self.0.iter().zip(&other.0)).all(|(one, other)| one.is_same(other.as_ref()))
    }
}

impl Methods {
    /// Those of no method.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// The choices of a method; its defaults where it was not registered when these settings were made.
    #[must_use]
    pub fn get<C: Section>(&self) -> C {
        let mut all = self.0.iter();
        let own = all.find_map(|choices| choices.any().downcast_ref::<C>());
        own.cloned().unwrap_or_default()
    }

    /// The choices of a method, to be changed.
    ///
    /// # Errors
    /// A method that was not registered when these settings were made.
    pub fn get_mut<C: Section>(&mut self) -> Result<&mut C> {
        let mut all = self.0.iter_mut();
        match all.find_map(|choices| choices.any_mut().downcast_mut::<C>()) {
            Some(own) => Ok(own),
            None => Err(Error::config(
                std::any::type_name::<C>(),
                "no registered method has choices of this type; register it before settings are made",
            )),
        }
    }

    /// The choices of a base.
    ///
    /// # Errors
    /// A base that was not registered when these settings were made.
    pub fn base(&self, kind: BaseKind) -> Result<Box<dyn BaseConfig>> {
        let mut all = self.0.iter().filter_map(|choices| choices.base());
        let own = all.find(|own| own.kind() == kind);
        own.ok_or_else(|| Error::config("base", format!("{kind} is not registered")))
    }

    /// The choices of an add-on.
    ///
    /// # Errors
    /// An add-on that was not registered when these settings were made.
    pub fn addon(&self, kind: AddonKind) -> Result<Box<dyn AddonConfig>> {
        let mut all = self.0.iter().filter_map(|choices| choices.addon());
        let own = all.find(|own| own.kind() == kind);
        own.ok_or_else(|| Error::config("addons", format!("{kind} is not registered")))
    }

    /// All sections, with the choices in them.
    pub(super) fn each(&mut self) -> impl Iterator<Item = (&'static str, &mut dyn MethodConfig)> {
        let all = self.0.iter_mut();
        all.map(|choices| (choices.section(), choices.method_mut()))
    }

    /// Takes over a section.
    fn read(&mut self, section: &str, value: Value) -> Result<(), String> {
        let all = registered();
        let found = all.iter().find(|method| method.kind.section() == section);
        let Some(method) = found else {
            let own = PretrainConfig::own_settings();
            let sections = all.iter().map(|method| method.kind.section().to_owned());
            let known: Vec<_> = own
                .chain(sections)
                .map(|name| format!("`{name}`"))
                .collect();
            let known = known.join(", ");
            return Err(format!(
                "unknown field `{section}`, expected one of {known}"
            ));
        };
        let new = (method.read)(value).map_err(|e| {
            let text = e.to_string();
            let text = text.trim_end();
            // The path below the section is there already.
            match text.split_once("in `") {
                Some((what, path)) => format!("{what}in `{section}.{path}"),
                None => format!("{text}\nin `{section}`"),
            }
        })?;
        match self.0.iter_mut().find(|own| own.section() == section) {
            Some(own) => *own = new,
            None => self.0.push(new),
        }
        Ok(())
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for choices in &self.0 {
            let value = choices.to_value().map_err(S::Error::custom)?;
            map.serialize_entry(choices.section(), &value)?;
        }
        map.end()
    }
}

/// From what is left of a map when all other settings are taken out: sections that are no method's are refused.
impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut methods = Self::default();
        for (section, value) in Table::deserialize(from)? {
            methods.read(&section, value).map_err(D::Error::custom)?;
        }
        Ok(methods)
    }
}

/// The one of `kinds` that is called `name`; as serde says it otherwise.
fn named<K: Copy, E: serde::de::Error>(
    name: &str,
    kinds: &[K],
    name_of: fn(K) -> &'static str,
) -> Result<K, E> {
    let found = kinds.iter().copied().find(|kind| name_of(*kind) == name);
    found.ok_or_else(|| {
        let known: Vec<_> = kinds
            .iter()
            .map(|kind| format!("`{}`", name_of(*kind)))
            .collect();
        E::custom(format!(
            "unknown variant `{name}`, expected one of {}",
            known.join(", ")
        ))
    })
}

/// A base by its name.
pub(super) fn base_kind<'de, D: Deserializer<'de>>(from: D) -> Result<BaseKind, D::Error> {
    named(&String::deserialize(from)?, &base_kinds(), BaseKind::name)
}

/// Add-ons by their names.
pub(super) fn addons<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<AddonKind>, D::Error> {
    let (names, kinds) = (Vec::<String>::deserialize(from)?, addon_kinds());
    let kind = |name: &String| named(name, &kinds, AddonKind::name);
    names.iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use fgvr_ssl::{ByolConfig, MoCoConfig};

    use super::*;

    #[test]
    fn the_methods_of_fgvr_ssl_are_there_with_their_defaults() {
        assert_eq!(base_kinds()[..6], BaseKind::ALL);
        assert_eq!(addon_kinds()[..6], AddonKind::ALL);
        let methods = Methods::default();
        assert_eq!(methods.get::<MoCoConfig>(), MoCoConfig::default());
        for kind in BaseKind::ALL {
            assert_eq!(methods.base(kind).unwrap().kind(), kind);
        }
        for kind in AddonKind::ALL {
            assert_eq!(methods.addon(kind).unwrap().kind(), kind);
        }
    }

    #[test]
    fn choices_are_read_changed_compared_and_written() {
        let mut methods: Methods = toml::from_str("[byol]\ndim = 32\n").unwrap();
        assert_eq!(methods.get::<ByolConfig>().dim, 32);
        assert_ne!(methods, Methods::default());
        methods.get_mut::<ByolConfig>().unwrap().dim = 16;
        let text = toml::to_string(&methods).unwrap();
        assert_eq!(toml::from_str::<Methods>(&text).unwrap(), methods);
        assert!(methods.get_mut::<u8>().is_err());
    }

    #[test]
    fn what_is_no_choice_is_refused_with_what_there_is() {
        let refused = |text: &str| toml::from_str::<Methods>(text).unwrap_err().to_string();
        let text = refused("[byoll]\ndim = 32\n");
        assert!(text.contains("`byoll`, expected one of"), "{text}");
        assert!(text.contains("`augment_crops`") && text.contains("`patch_match`"));
        let text = refused("[byol]\ndims = 32\n");
        assert!(text.contains("`dims`, expected one of `dim`"), "{text}");
        let text = refused("[synthpair.noise]\nkind = \"loud\"\n");
        assert!(text.contains("synthpair.noise.kind"), "{text}");
    }

    #[test]
    fn a_name_or_section_that_is_taken_is_refused_and_the_same_method_is_not() {
        register_base::<MoCoConfig>().unwrap();
        assert_eq!(base_kinds().len(), 6);

        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Taken<const DATA: bool>;

        impl<const DATA: bool> MethodConfig for Taken<DATA> {
            fn validate(&self) -> candle_core::Result<()> {
                Ok(())
            }
        }

        impl<const DATA: bool> BaseConfig for Taken<DATA> {
            fn kind(&self) -> BaseKind {
                match DATA {
                    true => BaseKind::new("own", "data"),
                    false => BaseKind::new("own", "lcr"),
                }
            }

            fn build(
                &self,
                _: fgvr_ssl::Parts<'_>,
            ) -> candle_core::Result<Box<dyn fgvr_ssl::Base>> {
                candle_core::bail!("it is never built")
            }
        }

        let text = register_base::<Taken<true>>().unwrap_err().to_string();
        assert!(text.contains("a setting of every run"), "{text}");
        let text = register_base::<Taken<false>>().unwrap_err().to_string();
        assert!(text.contains("that of lcr"), "{text}");
    }
}
