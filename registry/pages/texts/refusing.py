"""What a page says of a form that was sent: when it was refused, or what it made is shown once."""

TEXTS = {
    "refused.title": "Not done: ",
    "refused.changed": "Somebody changed this after your page was drawn. Nothing was done. What you typed is "
    "still here: look at it again, and send it once more to have it so all the same.",
    "refused.stands": "What stands now:",
    "refused.same": "The page shows what stands now.",
    "once.back": "I have it: go on",
    "sure.yes": "Yes, do it",
    "sure.no": "Leave it as it is",
    "sure.webhook": "Delete the webhook to {url}?",
    "sure.webhook.then": "Its secret and its deliveries are gone, also those that wait to be sent.",
    "sure.worker": "Revoke the worker {name}?",
    "sure.worker.then": "Its tokens open nothing any more, and what it is at is tried by others.",
    "sure.retention": "Take the retention policy of {on} away?",
    "sure.findings": "Take the findings policy of {on} away?",
    "sure.run_spec": "Take the run spec of {on} away?",
    "sure.quota": "Take all quotas of {on} away?",
    "sure.policy.then": "What it says stands only in the audit trail then; what a namespace above says, or "
    "what is usual, counts at once.",
    "sure.schedule": "Delete the schedule {number} of {on}?",
    "sure.schedule.then": "Nothing is tried again by it.",
    "sure.tag_rule": "Delete the rule for {pattern}?",
    "sure.tag_rule.then": "Tags that no other rule holds may move and be deleted then.",
    "sure.signature": "Require the signature {name} no longer?",
    "sure.signature.then": "What it kept from being pulled may be pulled, if no other rule is in the way.",
    "sure.hook": "Delete the hook {name}?",
    "sure.hook.then": "Its address takes no more messages. Its secret is gone, and the webhook that calls "
    "back for it.",
    "sure.upstream": "Forget the upstream {name}?",
    "sure.upstream.then": "Its password or token is gone, and with it what was copied from there and how "
    "that was tried.",
    "sure.token": "Revoke the token {name}?",
    "sure.token.then": "It opens nothing any more, nor do tokens that were made with it, and it cannot come "
    "back.",
    "sure.tokens": "Revoke all that {account} was given?",
    "sure.tokens.then": "Its tokens open nothing any more, and it is signed out everywhere. Whatever uses "
    "them needs new ones.",
    "refused.typed": "What you sent, to be copied",
}
