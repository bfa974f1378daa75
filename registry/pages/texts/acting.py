"""What one may, signing keys, workers that are made, an image that is tried and tagged."""

TEXTS = {
    # what one may
    "account.rights": "What you may",
    "rights.title": "What you may",
    "rights.signed_in": "You came with",
    "rights.came.password": "your password",
    "rights.came.session": "a session of these pages",
    "rights.came.API token": "an API token",
    "rights.came.registry token": "a registry token",
    "rights.came.job": "a job's token",
    "rights.until": "It works until",
    "rights.scopes": "It may",
    "rights.says_none": "user: what is below, and to pull what is for everybody who signs in",
    "rights.none": "You hold no role. Whoever owns a repository or a namespace can give you one; you may "
    "pull what is public, and what is for everybody who signs in.",
    "rights.needs_none": "You hold none, and as an administrator you need none.",
    "rights.why": "Why may you do something somewhere, or not?",
    "sessions.everything": "End everything",
    "sessions.everything_hint": "All your API tokens, your sessions, also this one, and what clients keep "
    "open nothing any more. Your password stays.",
    "sessions.end_everything": "End everything",
    # users of a file
    "users.import": "Users of an htpasswd file",
    "users.import_hint": "NAME:HASH in each line, with bcrypt, at most a thousand. They sign in with the "
    "password that they had. Who is there already stays as it is.",
    "users.htpasswd": "Its lines",
    "users.import_it": "Make them",
    "users.imported": "Users that were made: {count}",
    "users.refused": "Lines that made none",
    "users.line": "Line",
    # what the registry was started with
    "administration.settings": "Settings",
    "administration.settings.says": "What the registry was started with.",
    "registry_settings.what": "They are read at its start, from a file, the environment and the command, and "
    "changed there. Another replica may have other ones.",
    "registry_settings.which": "Which settings",
    "registry_settings.changed": "Not as by default",
    "registry_settings.all": "All",
    "registry_settings.variable": "Variable",
    "registry_settings.value": "Value",
    "registry_settings.meaning": "What it says",
    "registry_settings.secret": "given, and not shown",
    "registry_settings.not_given": "not given",
    "registry_settings.default": "(by default)",
    "registry_settings.none": "All are as they are by default.",
    # the first steps
    "start.login": "Sign in with your client:",
    "start.login_hint": "By your name and your password, or instead of that by an API token, which may less.",
    "start.token": "Make a token",
    "start.push": "Push an image; that makes the repository, if there is none of that name:",
    "start.watch": "It is tried in isolation. The state stands beside its tag, and how it goes is told under",
    "start.pull": "What passed is pulled by those who may:",
    "start.untried": "Pushes are not tried here; the settings say so. A button on an image's page has it "
    "tried.",
    "start.no_worker": "No worker is known yet, so nothing would be tried. Make one first:",
    "start.no_role": "Nothing is here that you may pull, and you hold no role that lets you push. Whoever "
    "owns a repository or a namespace, or an administrator, can give you one.",
    "tags.not_yours": "Those who push to it have pushed nothing yet.",
    # signing keys
    "administration.keys": "Signing keys",
    "administration.keys.says": "What registry tokens and verdicts are signed with, and new ones.",
    "keys.what": "Registry tokens, which clients are given for minutes, and verdicts are signed with keys of "
    "their own. Others verify them with the public halves.",
    "keys.kid": "Key",
    "keys.ring": "Signs",
    "keys.algorithm": "Algorithm",
    "keys.public": "Public half",
    "keys.verifies": "Verifies",
    "keys.until": "until",
    "keys.stays": "as long as it is there",
    "ring.token": "registry tokens",
    "ring.attestation": "verdicts",
    "keys.rotate": "A new key",
    "keys.rotate_hint": "It signs after {settle} seconds, when every replica knows it. Older keys verify for "
    "{keep} hours more; those of verdicts for good. Nobody has to sign in again.",
    "keys.rotate_it": "Make one",
    "keys.stolen": "A key was stolen",
    "keys.stolen.token": "All keys of registry tokens are worth nothing at once, and a new one is made. "
    "Every client asks for a new token, by itself.",
    "keys.stolen.attestation": "All keys of verdicts are worth nothing at once, and a new one is made. "
    "Verdicts are signed anew; what others have kept verifies no longer.",
    "keys.replace": "Replace them",
    "keys.replace_one": "Replace them: {ring}",
    # workers
    "workers.new": "A new worker",
    "workers.new_hint": "It gets a token, which is shown once, and is bound to nothing: it tries images of "
    "all namespaces until its page says otherwise. The name of one that there is gives that one "
    "another token, and lets it in again if it was revoked.",
    "workers.create": "Make it",
    "workers.made": "The worker {name} is made",
    "workers.run": "Put it into a file on the worker's host, and start it there:",
    # what a repository remembers
    "settings.keeping": "How long it remembers",
    "settings.keeping_hint": "For administrators. What is left empty is as the settings of the registry say.",
    "settings.trial_keep_days": "Days that its trials are kept",
    "settings.history_keep_days": "Days that its histories say where a tag stood, after it moved on",
    "settings.history_keep_lines": "Moves of each tag that are kept",
    "settings.log_keep_bytes": "How much of its logs is kept",
    "settings.keep": "Change what is kept",
    # an image of another registry
    "upstreams.try": "Try an image of theirs",
    "upstreams.try_hint": "It is copied for the trial alone, and seen by nobody else. As in",
    "upstreams.try_of": "Image of {name}",
    "upstreams.try_one": "Try it: an image of {name}",
    # one image
    "image.try": "Try it",
    "image.try_hint": "Starts a trial by the run spec that is there now.",
    "tagging.title": "Tags",
    "tagging.copy": "Another tag that stands here",
    "tagging.copy_it": "Make it",
    "tagging.move": "Point this tag at another image",
    "tagging.to": "Tag or digest of that image",
    "tagging.move_hint": "Its history keeps where it stood, and leads back.",
    "tagging.move_it": "Move the tag",
    # webhooks
    "administration.webhooks": "Webhooks",
    "administration.webhooks.says": "Which programs are told of what, everywhere.",
    "webhooks.of_all": "It is told of what happens everywhere. One of a namespace is made on that page.",
    "webhooks.change": "Change it",
    "webhooks.kinds_are": "With spaces between them, as in",
    "webhooks.ordered": "each repository's events come one after the other, in their order",
    "webhooks.since": "Send several again",
    "webhooks.since_when": "Those made since (UTC)",
    "webhooks.only_failed": "only those that were given up",
    "webhooks.since_it": "Send them",
    "webhooks.rotate": "Another secret",
    "webhooks.rotated": "The new secret",
    "webhooks.rotate_hint": "For a day each delivery is signed with the old one as well.",
}
