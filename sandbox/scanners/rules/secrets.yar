/*
  Secrets. A rule finds what has the form; what "check" names (sandbox/scanners/content/checks.py) looks at the
  checksum, at placeholders and at how random it is. "only" restricts a rule to files of that sort.
  Each rule has true and false examples in tests/unit/sandbox/scanners/content/examples.py.
*/

rule ST_SECRET_PRIVATE_KEY : secret {
  meta:
    title = "private key"
    severity = "high"
    check = "private_key"
  strings:
    $ = /-----BEGIN ((RSA|EC|DSA|OPENSSH|ENCRYPTED) )?PRIVATE KEY-----(\r?\n|\\r\\n|\\n)[\x20-\x7e\r\n]{64,16384}/
  condition:
    any of them
}

rule ST_SECRET_PGP_PRIVATE_KEY : secret {
  meta:
    title = "private key of PGP"
    severity = "high"
    check = "private_key"
  strings:
    $ = /-----BEGIN PGP PRIVATE KEY BLOCK-----(\r?\n|\\n)[\x20-\x7e\r\n]{64,16384}/
  condition:
    any of them
}

rule ST_SECRET_AGE_KEY : secret {
  meta:
    title = "private key of age"
    severity = "high"
    check = "random"
  strings:
    $ = /AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}/ fullword
  condition:
    any of them
}

rule ST_SECRET_KUBECONFIG_KEY : secret {
  meta:
    title = "client key of a kubeconfig"
    severity = "high"
    check = "assigned"
  strings:
    $ = /client-key-data"?: ?"?LS0tLS1CRUdJTi[A-Za-z0-9+\/=]{100,12000}/
  condition:
    any of them
}

rule ST_SECRET_AWS_ACCESS_KEY_ID : secret {
  meta:
    title = "access key id of AWS"
    severity = "high"
    check = "random"
  strings:
    $ = /(AKIA|ASIA)[A-Z0-9]{16}/ fullword
  condition:
    any of them
}

rule ST_SECRET_AWS_SECRET_ACCESS_KEY : secret {
  meta:
    title = "secret access key of AWS"
    severity = "critical"
    check = "aws_secret"
  strings:
    $ = /(aws_?secret_?access_?key|aws_?secret_?key|secretAccessKey)["']?[ \t]{0,8}[:=][ \t]{0,8}["']?[A-Za-z0-9\/+]{40}["'\s]?/ nocase
  condition:
    any of them
}

rule ST_SECRET_GITHUB_TOKEN : secret {
  meta:
    title = "token of GitHub"
    severity = "critical"
    check = "crc32_base62"
  strings:
    $ = /gh[pousr]_[A-Za-z0-9]{36}/ fullword
  condition:
    any of them
}

rule ST_SECRET_GITHUB_FINE_GRAINED_TOKEN : secret {
  meta:
    title = "fine-grained token of GitHub"
    severity = "critical"
    check = "random"
  strings:
    $ = /github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}/ fullword
  condition:
    any of them
}

rule ST_SECRET_GITLAB_TOKEN : secret {
  meta:
    title = "token of GitLab"
    severity = "critical"
    check = "random"
  strings:
    $ = /gl(pat|dt|rt|ptt|ft|soat|imt|agent)-[A-Za-z0-9_\-]{20,300}(\.[0-9a-z]{2}\.[0-9a-z]{9})?/
    $cbt = /glcbt-[0-9a-zA-Z]{1,5}_[A-Za-z0-9_\-]{20,64}/
  condition:
    any of them
}

rule ST_SECRET_NPM_TOKEN : secret {
  meta:
    title = "token of npm"
    severity = "critical"
    check = "crc32_base62"
  strings:
    $ = /npm_[A-Za-z0-9]{36}/ fullword
  condition:
    any of them
}

rule ST_SECRET_NPMRC_AUTH : secret {
  meta:
    title = "credentials in .npmrc"
    severity = "high"
    check = "assigned"
    only = "npmrc"
  strings:
    $ = /_(authToken|password|auth)[ \t]{0,8}=[ \t]{0,8}["']?[^\s"'#;]{8,500}/
  condition:
    any of them
}

rule ST_SECRET_PYPI_TOKEN : secret {
  meta:
    title = "upload token of PyPI"
    severity = "critical"
    check = "pypi"
  strings:
    $ = /pypi-AgE[A-Za-z0-9_\-]{60,500}/
  condition:
    any of them
}

rule ST_SECRET_PYPIRC_PASSWORD : secret {
  meta:
    title = "password in .pypirc"
    severity = "high"
    check = "assigned"
    only = "pypirc"
  strings:
    $ = /password[ \t]{0,8}[:=][ \t]{0,8}[^\s#;]{3,500}/
  condition:
    any of them
}

rule ST_SECRET_NETRC_PASSWORD : secret {
  meta:
    title = "password in .netrc"
    severity = "high"
    check = "last_word"
    only = "netrc"
  strings:
    $ = /login\s{1,8}[^\s]{1,200}\s{1,8}password\s{1,8}[^\s]{3,500}/
  condition:
    any of them
}

rule ST_SECRET_DOCKER_AUTH : secret {
  meta:
    title = "credentials of a registry in a docker config"
    severity = "high"
    check = "docker_auth"
  strings:
    $ = /"auth"[ \t]{0,8}:[ \t]{0,8}"[A-Za-z0-9+\/]{7,4000}={0,2}"/
  condition:
    any of them
}

rule ST_SECRET_DOCKER_HUB_TOKEN : secret {
  meta:
    title = "token of Docker Hub"
    severity = "critical"
    check = "random"
  strings:
    $ = /dckr_[op]at_[A-Za-z0-9_\-]{27,40}/
  condition:
    any of them
}

rule ST_SECRET_RUBYGEMS_TOKEN : secret {
  meta:
    title = "token of RubyGems"
    severity = "critical"
    check = "random"
  strings:
    $ = /rubygems_[a-f0-9]{48}/ fullword
  condition:
    any of them
}

rule ST_SECRET_CRATES_TOKEN : secret {
  meta:
    title = "token of crates.io"
    severity = "critical"
    check = "mixed"
    only = "configuration"
  strings:
    $ = /cio[A-Za-z0-9]{32}/ fullword
  condition:
    any of them
}

rule ST_SECRET_NUGET_TOKEN : secret {
  meta:
    title = "API key of NuGet"
    severity = "critical"
    check = "mixed"
  strings:
    $ = /oy2[a-z0-9]{43}/ fullword
  condition:
    any of them
}

rule ST_SECRET_SLACK_TOKEN : secret {
  meta:
    title = "token of Slack"
    severity = "high"
    check = "random"
  strings:
    $ = /xox[abeoprs]-[0-9]{8,13}-[A-Za-z0-9\-]{16,240}/
    $app = /xapp-[0-9]-[A-Z0-9]{8,13}-[0-9]{8,13}-[a-z0-9]{40,80}/
  condition:
    any of them
}

rule ST_SECRET_SLACK_WEBHOOK : secret {
  meta:
    title = "webhook of Slack"
    severity = "medium"
    check = "random"
  strings:
    $ = /https:\/\/hooks\.slack\.com\/services\/T[A-Z0-9]{8,12}\/B[A-Z0-9]{8,12}\/[A-Za-z0-9]{20,32}/
  condition:
    any of them
}

rule ST_SECRET_STRIPE_KEY : secret {
  meta:
    title = "live key of Stripe"
    severity = "critical"
    check = "random"
  strings:
    $ = /[sr]k_live_[A-Za-z0-9]{24,200}/
  condition:
    any of them
}

rule ST_SECRET_GOOGLE_API_KEY : secret {
  meta:
    title = "API key of Google"
    severity = "medium"
    check = "mixed"
  strings:
    $ = /AIza[A-Za-z0-9_\-]{35}/ fullword
  condition:
    any of them
}

rule ST_SECRET_GOOGLE_OAUTH_SECRET : secret {
  meta:
    title = "client secret of Google OAuth"
    severity = "high"
    check = "random"
  strings:
    $ = /GOCSPX-[A-Za-z0-9_\-]{28}/
  condition:
    any of them
}

rule ST_SECRET_AZURE_STORAGE_KEY : secret {
  meta:
    title = "account key of Azure Storage"
    severity = "critical"
    check = "assigned"
  strings:
    $ = /AccountKey=[A-Za-z0-9+\/]{86}==/
  condition:
    any of them
}

rule ST_SECRET_AZURE_CLIENT_SECRET : secret {
  meta:
    title = "client secret of Azure"
    severity = "critical"
    check = "mixed"
    only = "configuration"
  strings:
    $ = /[A-Za-z0-9_~.\-]{3}[78]Q~[A-Za-z0-9_~.\-]{31,34}/
  condition:
    any of them
}

rule ST_SECRET_SENDGRID_KEY : secret {
  meta:
    title = "API key of SendGrid"
    severity = "high"
    check = "mixed"
  strings:
    $ = /SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}/ fullword
  condition:
    any of them
}

rule ST_SECRET_TWILIO_KEY : secret {
  meta:
    title = "secret of Twilio"
    severity = "high"
    check = "assigned"
  strings:
    $ = /twilio[a-z_\-]{0,24}["']?[ \t]{0,8}[:=][ \t]{0,8}["']?(SK)?[0-9a-f]{32}["'\s]?/ nocase
  condition:
    any of them
}

rule ST_SECRET_MAILGUN_KEY : secret {
  meta:
    title = "API key of Mailgun"
    severity = "high"
    check = "assigned"
  strings:
    $ = /mailgun[a-z_\-]{0,24}["']?[ \t]{0,8}[:=][ \t]{0,8}["']?key-[0-9a-f]{32}/ nocase
  condition:
    any of them
}

rule ST_SECRET_OPENAI_KEY : secret {
  meta:
    title = "API key of OpenAI"
    severity = "high"
    check = "random"
  strings:
    $ = /sk-((proj|svcacct|admin)-)?[A-Za-z0-9_\-]{20,100}T3BlbkFJ[A-Za-z0-9_\-]{20,100}/
  condition:
    any of them
}

rule ST_SECRET_ANTHROPIC_KEY : secret {
  meta:
    title = "API key of Anthropic"
    severity = "high"
    check = "random"
  strings:
    $ = /sk-ant-(api|admin|oat)[0-9]{2}-[A-Za-z0-9_\-]{80,120}/
  condition:
    any of them
}

rule ST_SECRET_HUGGINGFACE_TOKEN : secret {
  meta:
    title = "token of Hugging Face"
    severity = "high"
    check = "random"
  strings:
    $ = /hf_[A-Za-z]{34}/ fullword
  condition:
    any of them
}

rule ST_SECRET_DIGITALOCEAN_TOKEN : secret {
  meta:
    title = "token of DigitalOcean"
    severity = "critical"
    check = "random"
  strings:
    $ = /do[opr]_v1_[a-f0-9]{64}/ fullword
  condition:
    any of them
}

rule ST_SECRET_VAULT_TOKEN : secret {
  meta:
    title = "token of HashiCorp Vault"
    severity = "critical"
    check = "mixed"
  strings:
    $ = /hv[sbr]\.[A-Za-z0-9_\-]{24,200}/
  condition:
    any of them
}

rule ST_SECRET_TERRAFORM_TOKEN : secret {
  meta:
    title = "token of HCP Terraform"
    severity = "critical"
    check = "mixed"
  strings:
    $ = /[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_\-]{60,80}/
  condition:
    any of them
}

rule ST_SECRET_GRAFANA_TOKEN : secret {
  meta:
    title = "service account token of Grafana"
    severity = "high"
    check = "random"
  strings:
    $ = /glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}/ fullword
  condition:
    any of them
}

rule ST_SECRET_SHOPIFY_TOKEN : secret {
  meta:
    title = "token of Shopify"
    severity = "high"
    check = "random"
  strings:
    $ = /shp(at|ca|pa|ss)_[a-fA-F0-9]{32}/ fullword
  condition:
    any of them
}

rule ST_SECRET_DATABRICKS_TOKEN : secret {
  meta:
    title = "token of Databricks"
    severity = "high"
    check = "random"
  strings:
    $ = /dapi[a-f0-9]{32}(-[0-9])?/ fullword
  condition:
    any of them
}

rule ST_SECRET_TELEGRAM_TOKEN : secret {
  meta:
    title = "token of a Telegram bot"
    severity = "high"
    check = "last_word"
  strings:
    $ = /(api\.telegram\.org\/bot|telegram[a-z_]{0,20}["']?[ \t]{0,4}[:=][ \t]{0,4}["']?)[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}/ nocase
  condition:
    any of them
}

rule ST_SECRET_JWT : secret {
  meta:
    title = "signed JSON Web Token"
    severity = "medium"
    check = "jwt"
  strings:
    $ = /eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{10,8000}\.[A-Za-z0-9_\-]{20,1400}/
  condition:
    any of them
}

rule ST_SECRET_DATABASE_URL : secret {
  meta:
    title = "database address with a password"
    severity = "high"
    check = "url_password"
  strings:
    $ = /(postgres(ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|sqlserver|cockroachdb|clickhouse)(\+[a-z0-9]{1,16})?:\/\/[^\s:@\/"'<>]{0,100}:[^\s@"'<>\/]{1,200}@[A-Za-z0-9\[_.\-]{1,250}/
  condition:
    any of them
}

rule ST_SECRET_URL_PASSWORD : secret {
  meta:
    title = "web address with a password"
    severity = "high"
    check = "strong_url_password"
  strings:
    $ = /https?:\/\/[^\s:@\/"'<>]{1,100}:[^\s@"'<>\/]{8,200}@[A-Za-z0-9\[_.\-]{1,250}/
  condition:
    any of them
}

rule ST_SECRET_AUTHORIZATION_HEADER : secret {
  meta:
    title = "header with credentials"
    severity = "high"
    check = "authorization"
    only = "configuration"
  strings:
    $ = /authorization["']?[ \t]{0,4}[:=][ \t]{0,4}["']?(bearer|basic|token)[ \t]{1,4}[A-Za-z0-9._~+\/=\-]{16,2000}/ nocase
  condition:
    any of them
}

rule ST_SECRET_ASSIGNED : secret {
  meta:
    title = "random value of a name like password, secret or token"
    severity = "medium"
    check = "high_entropy"
    only = "configuration"
  strings:
    $ = /(passw(or)?d|secret|api_?key|auth_?token|access_?token|private_?token|client_?secret|secret_?key|encryption_?key)["']?[ \t]{0,8}[:=][ \t]{0,8}["']?[A-Za-z0-9+\/=_.~!@%^&*\-]{16,200}/ nocase
  condition:
    any of them
}
