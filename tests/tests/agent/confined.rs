//! Threat T-27: the agent works in what its unit leaves it.

use adit_tests::confinement::Confinement;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use anyhow::Result;

use super::stage::{READY, Stage};

async fn the_agent_works_in_what_its_unit_leaves_it(scenario: Scenario) -> Result<()> {
    let Some(confinement) = Confinement::of_unit(&scenario, "adit-agent.service")? else {
        return Ok(());
    };
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.launch_changed(|command| *command = confinement.confine(command))?;
    agent.line(READY).await?;
    let (_tunnel, source) = stage.carries(&["SSH"]).await?;
    source.echoes().await?;
    Confinement::program_of(&agent)?;
    Ok(())
}

on_each_loop!(the_agent_works_in_what_its_unit_leaves_it);
