//! `forget-settings`: the settings of a keyspace were changed on purpose, and are to be decided anew.

use crate::args::ForgetSettingsArgs;
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};

/// Lets L2 forget what the instances of a keyspace share.
pub(crate) async fn forget_settings(args: ForgetSettingsArgs, talk: Talk) -> anyhow::Result<Exit> {
    let config = super::serve::load(&super::check::sources(args.config)?)?;
    let keyspace = args.keyspace;
    if !args.yes {
        if !output::can_ask() {
            return Err(Failure::usage("this needs a yes, and nobody is here to give it")
                .next("add --yes")
                .into());
        }
        if !output::ask(&format!("Does no instance run any more that has the old settings of {keyspace:?}?"))?
        {
            talk.say("nothing was forgotten");
            return Ok(Exit::Failure);
        }
    }
    terrace_server::forget_settings(&config, &keyspace)
        .await
        .map_err(|error| Failure::new(Exit::Failure, "the settings could not be forgotten").why(error))?;
    talk.say(format!("the next instance that opens {keyspace:?} decides on its settings"));
    Ok(Exit::Success)
}
