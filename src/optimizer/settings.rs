//! `SET toplake.… = …`: what a session asks of its planner.

use std::any::Any;

use datafusion::common::Result as EngineResult;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::prelude::SessionConfig;

use crate::error::Error;

/// The settings of one session.
#[derive(Debug, Clone, Default)]
pub struct PlannerSettings {
    /// Whether a query over raw events is answered by a rollup where one gives the same.
    pub rewrite: bool,
}

impl PlannerSettings {
    /// Those of a session.
    pub fn of(config: &SessionConfig) -> Self {
        config.options().extensions.get::<PlannerSettings>().cloned().unwrap_or_default()
    }
}

impl ConfigExtension for PlannerSettings {
    const PREFIX: &'static str = "toplake";
}

impl ExtensionOptions for PlannerSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> EngineResult<()> {
        if key != "rewrite" {
            let unknown = Error::invalid_input(format!("there is no setting 'toplake.{key}'"));
            return Err(unknown.with_hint("there is toplake.rewrite").into());
        }
        self.rewrite = match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => true,
            "off" | "false" | "no" | "0" | "default" => false,
            _ => {
                let wrong = Error::invalid_input(format!("toplake.rewrite cannot be '{value}'"));
                return Err(wrong.with_hint("it is on or off").into());
            }
        };
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            key: "toplake.rewrite".to_owned(),
            value: Some(if self.rewrite { "on" } else { "off" }.to_owned()),
            description: "Answer queries over raw events by a rollup where one gives the same",
        }]
    }
}
