"""A strict stand-in of the Kubeflow Pipelines v2beta1 API: a real HTTP server over kfp_server_api's own models.

Bodies are checked field by field against the request models: an unknown field or a value of another type is refused, as
are runs of unknown experiments or versions, parameters that the pipeline does not have, and crons that the server's
parser does not take. What it knows lives in dictionaries that tests look into.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

API = "/apis/v2beta1"
OPERATIONS = {"EQUALS", "NOT_EQUALS", "IN", "IS_SUBSTRING", 1, 2, 7, 9}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(value: Any, kind: str, where: str) -> None:
    """Refuse a JSON value that is not of the OpenAPI type `kind` (a model's name, str, list[...], ...)."""
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str, "object": object}
    if value is None:
        return
    if kind in plain:
        # Protobuf's JSON takes an int64 as a number or as a string.
        if not isinstance(value, plain[kind]) and not (kind == "str" and type(value) is int):  # type: ignore[arg-type]
            raise Refused(400, f"{where}: {value!r} is no {kind}")
    elif inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            raise Refused(400, f"{where}: {value!r} is no list")
        for item in value:
            check(item, inner[1], where)
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            raise Refused(400, f"{where}: {value!r} is no object")
        for key, item in value.items():
            check(item, inner[1], f"{where}.{key}")
    else:
        model = getattr(kfp_server_api, kind)
        if not model.openapi_types:
            allowed = [v for n, v in vars(model).items() if n.isupper()]
            if value not in allowed:
                raise Refused(400, f"{where}: {value!r} is none of {allowed}")
            return
        if not isinstance(value, dict):
            raise Refused(400, f"{where}: {value!r} is no object")
        known = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
        for key, item in value.items():
            if key not in known:
                raise Refused(400, f'{where}: unknown field "{key}"')
            check(item, known[key], f"{where}.{key}" if where else key)


class KfpServer:
    """The server; use as a context manager. `url` is its address."""

    def __init__(self, token: str | None = None, header: tuple[str, str] | None = None, page: int = 3) -> None:
        self.token, self.header, self.page = token, header, page
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.outcome = "SUCCEEDED"
        self.looks_until_done = 2
        self.requests: Counter[str] = Counter()
        self.failures: list[tuple[str, str, int]] = []
        """(method, path pattern, status): the next request that matches is answered so, once."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: Any) -> None:
                pass

            def handle_one(self) -> None:
                status, answer = server.answer(self)
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                kind = "text/html" if isinstance(answer, bytes) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = handle_one

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> KfpServer:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    # --- one request ----------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler) -> tuple[int, Any]:
        address = urllib.parse.urlsplit(handler.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(address.query).items()}
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        method, path = handler.command, address.path
        self.requests[method] += 1
        try:
            if not path.startswith(API):
                raise Refused(404, "Not Found")
            if self.header and handler.headers.get(self.header[0]) != self.header[1]:
                return 200, b"<html>Log in</html>"
            if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "invalid token")
            for failure in self.failures:
                if failure[0] == method and re.search(failure[1], path):
                    self.failures.remove(failure)
                    raise Refused(failure[2], "on purpose")
            return 200, self.route(method, path.removeprefix(API), query, body, handler.headers.get("Content-Type", ""))
        except Refused as error:
            return error.status, {"code": 3, "message": str(error), "details": []}

    def route(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Any:
        parts = path.strip("/").split("/")
        head, _, verb = parts[-1].partition(":")
        match method, parts[0], len(parts):
            case "GET", "healthz", 1:
                return {"multi_user": False}
            case "POST", "pipelines", 2 if parts[1] in ("upload", "upload_version"):
                return self.upload(parts[1], query, body, kind)
            case "POST", "experiments", 1:
                return self.create(self.experiments, "experiment_id", "V2beta1Experiment", body)
            case "POST", "pipelines", 1:
                return self.create(self.pipelines, "pipeline_id", "V2beta1Pipeline", body)
            case "POST", "runs", 1:
                return self.create_run(body)
            case "POST", "recurringruns", 1:
                return self.create_job(body)
            case "POST", "recurringruns", 2 if verb in ("enable", "disable"):
                self.find(self.jobs, head).update(mode=verb.upper(), status=f"{verb.upper()}D")
                return {}
            case "GET", "runs", 2:
                return self.look_at_run(head)
            case "GET", "pipelines", 3:
                return self.listing("pipeline_versions", self.versions, query, pipeline_id=parts[1])
            case "GET", _, 1:
                return self.listing(parts[0].replace("recurringruns", "recurringRuns"), self.table(parts[0]), query)
            case "GET", _, 2:
                return self.find(self.table(parts[0]), head)
            case "DELETE", _, 2:
                self.find(self.table(parts[0]), head)
                if parts[0] == "pipelines" and any(v["pipeline_id"] == head for v in self.versions.values()):
                    raise Refused(400, "the pipeline has versions")
                del self.table(parts[0])[head]
                return {}
        raise Refused(404, f"no such method: {method} {path}")

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        tables = {
            "experiments": self.experiments, "pipelines": self.pipelines, "runs": self.runs, "recurringruns": self.jobs
        }  # fmt: skip
        if name not in tables:
            raise Refused(404, f"no such collection: {name}")
        return tables[name]

    def find(self, table: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in table:
            raise Refused(404, f"{key} not found")
        return table[key]

    def listing(self, name: str, table: dict[str, dict[str, Any]], query: dict[str, str], **only: str) -> Any:
        known = {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}
        if extra := set(query) - known:
            raise Refused(400, f"unknown query {extra}")
        items = [item for item in table.values() if all(item.get(key) == value for key, value in only.items())]
        if query.get("filter"):
            for predicate in json.loads(query["filter"])["predicates"]:
                if predicate["operation"] not in OPERATIONS or predicate["key"] not in ("display_name", "name"):
                    raise Refused(400, f"bad filter {predicate}")
                items = [item for item in items if item[predicate["key"]] == predicate["stringValue"]]
        start = int(query.get("page_token") or 0)
        size = min(int(query.get("page_size") or 10), self.page)
        answer = {name: items[start : start + size], "total_size": len(items)}
        if start + size < len(items):
            answer["next_page_token"] = str(start + size)
        return answer

    # --- making things --------------------------------------------------------------------------

    def read(self, body: bytes, model: str) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except ValueError as error:
            raise Refused(400, f"no JSON: {error}") from None
        check(value, model, "")
        if not value.get("display_name"):
            raise Refused(400, "display_name is missing")
        return value

    def create(self, table: dict[str, dict[str, Any]], key: str, model: str, body: bytes) -> Any:
        value = self.read(body, model)
        if any(item["display_name"] == value["display_name"] for item in table.values()):
            raise Refused(409, f"{value['display_name']} exists")
        return self.keep(table, key, value)

    def keep(self, table: dict[str, dict[str, Any]], key: str, value: dict[str, Any]) -> dict[str, Any]:
        value = {**value, key: str(uuid.uuid4()), "created_at": datetime.now(UTC).isoformat()}
        table[value[key]] = value
        return value

    def upload(self, what: str, query: dict[str, str], body: bytes, kind: str) -> Any:
        message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
        files = [part for part in message.walk() if part.get_filename()]
        if what != "upload_version" or len(files) != 1 or set(query) - {"name", "pipelineid", "description"}:
            raise Refused(400, f"bad upload: {what} {query}")
        self.find(self.pipelines, query["pipelineid"])
        text = files[0].get_payload(decode=True)
        spec = self.read_spec(yaml.safe_load_all(text))
        same = [v for v in self.versions.values() if v["display_name"] == query["name"]]
        if any(v["pipeline_id"] == query["pipelineid"] for v in same):
            raise Refused(409, f"version {query['name']} exists")
        value = {
            "pipeline_id": query["pipelineid"], "display_name": query["name"], "name": query["name"],
            "description": query.get("description", ""), "pipeline_spec": spec,
        }  # fmt: skip
        return self.keep(self.versions, "pipeline_version_id", value)

    def read_spec(self, documents: Any) -> dict[str, Any]:
        spec, *platform = list(documents)
        try:
            json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
            for document in platform:
                json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refused(400, f"no pipeline: {error}") from None
        return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec

    def check_job(self, value: dict[str, Any]) -> None:
        """What runs and recurring runs share: experiment, pipeline, parameters."""
        self.find(self.experiments, value.get("experiment_id", ""))
        reference, spec = value.get("pipeline_version_reference"), value.get("pipeline_spec")
        if (reference is None) == (spec is None):
            raise Refused(400, "give a pipeline_spec or a pipeline_version_reference")
        if reference is not None:
            version = self.find(self.versions, reference["pipeline_version_id"])
            if version["pipeline_id"] != reference["pipeline_id"]:
                raise Refused(400, "the version is not of that pipeline")
            spec = version["pipeline_spec"]
        elif "pipeline_spec" in spec:
            self.read_spec([spec["pipeline_spec"], spec["platform_spec"]])
        else:
            self.read_spec([spec])
        declared = spec.get("pipeline_spec", spec)["root"].get("inputDefinitions", {}).get("parameters", {})
        given = (value.get("runtime_config") or {}).get("parameters") or {}
        if unknown := set(given) - set(declared):
            raise Refused(400, f"parameter not in the pipeline: {sorted(unknown)}")
        for name, entry in declared.items():
            if name not in given and "defaultValue" not in entry and not entry.get("isOptional"):
                raise Refused(400, f"parameter {name} is missing")

    def create_run(self, body: bytes) -> Any:
        value = self.read(body, "V2beta1Run")
        self.check_job(value)
        run = self.keep(self.runs, "run_id", {**value, "state": "PENDING"})
        run["looks"] = 0
        return {key: item for key, item in run.items() if key != "looks"}

    def look_at_run(self, run_id: str) -> Any:
        """A run goes on with every look: pending, running, then its outcome."""
        run = self.find(self.runs, run_id)
        run["looks"] += 1
        done = run["looks"] > self.looks_until_done
        run["state"] = self.outcome if done else "RUNNING"
        failed = self.outcome == "FAILED"
        tasks = [
            {"run_id": run_id, "task_id": "1", "display_name": "preprocess", "state": "SUCCEEDED"},
            {"run_id": run_id, "task_id": "2", "display_name": "train", "state": run["state"]},
        ]
        if done and failed:
            tasks[1]["error"] = {"code": 13, "message": "the loss is not finite"}
        run["run_details"] = {"task_details": tasks}
        return {key: item for key, item in run.items() if key != "looks"}

    def create_job(self, body: bytes) -> Any:
        value = self.read(body, "V2beta1RecurringRun")
        self.check_job(value)
        cron = (value.get("trigger") or {}).get("cron_schedule", {}).get("cron", "")
        if len(cron.split()) not in (5, 6):  # the real parser takes five fields too, and reads them seconds first
            raise Refused(400, f"bad cron {cron!r}")
        if not 1 <= int(value.get("max_concurrency") or 0) <= 10:
            raise Refused(400, "max_concurrency must be 1 to 10")
        value["status"] = f"{value['mode']}D"
        return self.keep(self.jobs, "recurring_run_id", value)


def wait_until(condition: Any, seconds: float = 10) -> None:
    """Wait for a condition that another process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
