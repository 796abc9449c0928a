"""The command that serves a model."""

import os
from pathlib import Path
from typing import Annotated

import typer

from panovlm.commands.model_argument import ModelArgument
from panovlm.commands.models import DtypeOption
from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import hide_loading_bars

MegabytesOption = Annotated[
    int, typer.Option(min=1, help="Of all requests whose pictures are not opened yet.")
]
ModelNameOption = Annotated[str, typer.Option(help="By which clients call the model.")]
OriginsOption = Annotated[
    list[str] | None,
    typer.Option(help="Origin whose pages may ask (https://example.com, or * for all)."),
]
ServerNamesOption = Annotated[
    str, typer.Option(help="Names by which clients call the server, by commas.")
]
KeyFileOption = Annotated[Path | None, typer.Option(help="File of API keys, one a line.")]
WithoutKeyOption = Annotated[
    bool, typer.Option("--without-key", help="Let everybody ask who reaches --host.")
]
CertificateOption = Annotated[Path | None, typer.Option(help="Certificate chain, for https.")]
ExamplesOption = Annotated[
    str | None,
    typer.Option(
        help="Panoramas to try on the page: some of a folder, scenes (the default for a model "
        "that speaks of these alone) or none."
    ),
]
PrivateKeyOption = Annotated[Path | None, typer.Option(help="Its private key.")]


def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Running and waiting; one more gets status 429.")
    ] = 64,
    max_mb: MegabytesOption = 512,
    served_model_name: ModelNameOption = "panovlm",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 1024,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest request.")] = 120.0,
    max_pictures: Annotated[int, typer.Option(min=1, help="In one conversation.")] = 4,
    num_panoramas: Annotated[
        int, typer.Option(min=0, help="Panoramas whose prefixes are kept in memory.")
    ] = 32,
    allow_hosts: Annotated[
        str, typer.Option(help="Hosts to fetch pictures from, by commas; none by default.")
    ] = "",
    cors_origin: OriginsOption = None,
    server_names: ServerNamesOption = "",
    key_file: KeyFileOption = None,
    without_key: WithoutKeyOption = False,
    tls_cert: CertificateOption = None,
    tls_key: PrivateKeyOption = None,
    examples: ExamplesOption = None,
    dtype: DtypeOption = "auto",
) -> None:
    """Serve a MODEL to OpenAI clients; PANOVLM_API_KEYS may hold API keys."""
    try:
        from panovlm.serving.run import read_keys
        from panovlm.serving.run import serve as run
    except ImportError as error:
        raise PanoVLMError(
            f"found no module {error.name}, which panovlm serve needs; run: pip install "
            "'panovlm[serve]'"
        ) from error
    from panovlm.inference.prefixes import PrefixStore
    from panovlm.serving.examples import examples_of, offered_by_default
    from panovlm.serving.limits import Limits
    from panovlm.serving.middleware import Access

    hide_loading_bars()
    keys = os.environ.get("PANOVLM_API_KEYS", "").replace(",", " ").split()
    keys += read_keys(key_file) if key_file else []
    names = [host, *server_names.replace(",", " ").split()]
    run(
        model,
        host=host,
        port=port,
        access=Access(keys, names, cors_origin or []),
        limits=Limits(
            max_requests=max_requests,
            max_bytes=max_mb << 20,
            batch_size=batch_size,
            max_tokens=max_tokens,
            max_s=max_seconds,
            max_pictures=max_pictures,
        ),
        prefixes=PrefixStore(max_count=num_panoramas),
        examples=examples_of(examples or offered_by_default(model)),
        allow_hosts=allow_hosts,
        dtype=dtype,
        model_name=served_model_name,
        tls_cert=tls_cert,
        tls_key=tls_key,
        without_key=without_key,
    )
