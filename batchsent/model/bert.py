"""The parts of BERT and its near relations, taken by their names.

All of them have absolute positions, post-norm blocks and a head that reads the first token.
"""

from typing import Any

from batchsent.model.parts import Config, EncoderWeights, FindPart, Head, Layer, find_norm


def distilbert(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of a DistilBertForSequenceClassification."""
    epsilon = 1e-12  # stands in the code of transformers, not in the configuration

    def layer(number: int) -> Layer:
        block = f"distilbert.transformer.layer.{number}"
        return Layer(
            query=find(f"{block}.attention.q_lin"),
            key=find(f"{block}.attention.k_lin"),
            value=find(f"{block}.attention.v_lin"),
            attention_output=find(f"{block}.attention.out_lin"),
            norm_after_attention=find_norm(find, f"{block}.sa_layer_norm", epsilon),
            intermediate=find(f"{block}.ffn.lin1"),
            output=find(f"{block}.ffn.lin2"),
            norm_after_dense=find_norm(find, f"{block}.output_layer_norm", epsilon),
        )

    return EncoderWeights(
        word_embeddings=find("distilbert.embeddings.word_embeddings").weight,
        position_embeddings=find("distilbert.embeddings.position_embeddings").weight,
        norm=find_norm(find, "distilbert.embeddings.LayerNorm", epsilon),
        layers=tuple(layer(number) for number in range(config.n_layers)),
        heads=config.n_heads,
        activation=config.activation,
        head=Head(find("pre_classifier"), "relu", find("classifier")),
    )


def bert(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of a BertForSequenceClassification."""
    head = Head(find("bert.pooler.dense"), "tanh", find("classifier"))
    return _bert_like(config, find, "bert", head)


def roberta(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of a RobertaForSequenceClassification, or of one of its copies."""
    head = Head(find("classifier.dense"), "tanh", find("classifier.out_proj"))
    # Positions count from the padding id on.
    return _bert_like(config, find, "roberta", head, first_position=config.pad_token_id + 1)


def electra(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of an ElectraForSequenceClassification."""
    narrow = config.embedding_size != config.hidden_size
    return _bert_like(
        config,
        find,
        "electra",
        head=Head(find("classifier.dense"), "gelu", find("classifier.out_proj")),
        projection=find("electra.embeddings_project") if narrow else None,
    )


def _bert_like(
    config: Config,
    find: FindPart,
    base: str,
    head: Head,
    first_position: int = 0,
    projection: Any = None,
) -> EncoderWeights:
    epsilon = config.layer_norm_eps

    def layer(number: int) -> Layer:
        block = f"{base}.encoder.layer.{number}"
        return Layer(
            query=find(f"{block}.attention.self.query"),
            key=find(f"{block}.attention.self.key"),
            value=find(f"{block}.attention.self.value"),
            attention_output=find(f"{block}.attention.output.dense"),
            norm_after_attention=find_norm(find, f"{block}.attention.output.LayerNorm", epsilon),
            intermediate=find(f"{block}.intermediate.dense"),
            output=find(f"{block}.output.dense"),
            norm_after_dense=find_norm(find, f"{block}.output.LayerNorm", epsilon),
        )

    return EncoderWeights(
        word_embeddings=find(f"{base}.embeddings.word_embeddings").weight,
        position_embeddings=positions_and_type(find, base),
        first_position=first_position,
        norm=find_norm(find, f"{base}.embeddings.LayerNorm", epsilon),
        projection=projection,
        layers=tuple(layer(number) for number in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=head,
    )


def positions_and_type(find: FindPart, base: str) -> Any:
    """Return the embeddings of positions with that of token type 0, which a single text has."""
    token_type = find(f"{base}.embeddings.token_type_embeddings").weight[0]
    return find(f"{base}.embeddings.position_embeddings").weight + token_type


def albert(config: Config, find: FindPart) -> EncoderWeights:
    """Take the parts of an AlbertForSequenceClassification, whose blocks share their weights."""
    epsilon = config.layer_norm_eps

    def layer(group: int, number: int) -> Layer:
        block = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{number}"
        return Layer(
            query=find(f"{block}.attention.query"),
            key=find(f"{block}.attention.key"),
            value=find(f"{block}.attention.value"),
            attention_output=find(f"{block}.attention.dense"),
            norm_after_attention=find_norm(find, f"{block}.attention.LayerNorm", epsilon),
            intermediate=find(f"{block}.ffn"),
            output=find(f"{block}.ffn_output"),
            norm_after_dense=find_norm(find, f"{block}.full_layer_layer_norm", epsilon),
        )

    groups = [
        [layer(group, number) for number in range(config.inner_group_num)]
        for group in range(config.num_hidden_groups)
    ]
    steps = config.num_hidden_layers
    layers: list[Layer] = []
    for step in range(steps):
        layers += groups[int(step / (steps / config.num_hidden_groups))]
    return EncoderWeights(
        word_embeddings=find("albert.embeddings.word_embeddings").weight,
        position_embeddings=positions_and_type(find, "albert"),
        norm=find_norm(find, "albert.embeddings.LayerNorm", epsilon),
        projection=find("albert.encoder.embedding_hidden_mapping_in"),
        layers=tuple(layers),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        head=Head(find("albert.pooler"), "tanh", find("classifier")),
    )
