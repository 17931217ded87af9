//! Lists the features of a message that only some senders use.

use ferrolb_bgp::wire::Message;

/// Capabilities, NOTIFICATIONs as text, communities and next hops of a message.
pub(super) fn remarks(message: &Message) -> Vec<String> {
    match message {
        Message::Open(open) => {
            let capabilities = open.capabilities.iter();
            capabilities.map(ToString::to_string).collect()
        }
        Message::Notification(notification) => {
            let mut remarks = vec![notification.to_string()];
            remarks.extend(notification.shutdown_text());
            remarks.extend(notification.data_in_words());
            remarks
        }
        Message::RouteRefresh(refresh) => vec![format!("refresh {}", refresh.subtype)],
        Message::Update(update) => {
            let attributes = &update.attributes;
            let large = attributes.large_communities.iter();
            let extended = attributes.extended_communities.iter();
            large
                .map(ToString::to_string)
                .chain(extended.map(ToString::to_string))
                .chain(
                    update
                        .mp_reach
                        .iter()
                        .map(|reach| format!("by {}", reach.next_hop)),
                )
                .collect()
        }
        Message::Keepalive => vec![],
    }
}
